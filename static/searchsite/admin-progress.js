// Moves the progress bars of imports that are under way, and shows the page anew when one ends.
const url = document.currentScript.dataset.url;

async function follow() {
  const bars = document.querySelectorAll('progress[data-live="1"]');
  if (!bars.length) return;
  try {
    const runs = await (await fetch(url, { headers: { Accept: "application/json" } })).json();
    for (const bar of bars) {
      const run = runs[bar.dataset.run];
      if (!run) continue;
      if (!["pending", "running"].includes(run.state)) return location.reload();
      bar.value = run.percent;
      const label = bar.nextElementSibling;
      if (label) label.textContent = `${run.percent} %, ${run.rows.toLocaleString()} rows, ${run.rejected.toLocaleString()} rejected`;
    }
  } catch (error) {
    console.warn("progress is not to be had now", error); // asked again below
  }
  setTimeout(follow, 1000);
}

follow();
