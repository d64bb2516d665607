// Follows a training that is under way: its phase, its bar and its curves; the page is shown anew when its state changes.
const { url, state } = document.currentScript.dataset;

function tell(name, text) {
  const place = document.querySelector(`[data-told="${name}"]`);
  if (!place || place.textContent === text) return; // screen readers hear what changed, not every second
  place.textContent = text;
  place.hidden = name === "error" && !text;
}

function draw(curves) {
  const place = document.getElementById("curves");
  if (place.querySelector("details[open]") || place.contains(document.activeElement)) return; // being read
  if (place.dataset.drawn !== curves) place.innerHTML = place.dataset.drawn = curves;
}

async function follow() {
  try {
    const run = await (await fetch(url, { headers: { Accept: "application/json" } })).json();
    if (run.state !== state) return location.reload();
    document.querySelector("progress").value = run.percent;
    tell("phase", run.phase ? `: ${run.phase}` : "");
    tell("percent", `${run.percent} %`);
    tell("steps", run.steps);
    tell("error", run.error);
    draw(run.curves);
  } catch (error) {
    console.warn("progress is not to be had now", error); // asked again below
  }
  setTimeout(follow, 2000);
}

follow();
