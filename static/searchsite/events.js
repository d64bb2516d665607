// Tells the shop which results were really seen: half of one in view for a second. The pages work without.
{
  const { url } = document.currentScript.dataset;
  const SEEN_MS = 1000, WAIT_MS = 2000, MOST = 100;
  const timers = new Map();
  const told = new Set();
  let waiting = [];
  let sending;

  const send = () => {
    clearTimeout(sending);
    if (waiting.length) navigator.sendBeacon(url, waiting.splice(0, MOST).join(" "));
    if (waiting.length) send();
  };

  const note = (link) => {
    timers.delete(link);
    const reference = new URL(link.href).searchParams.get("ref");
    if (!link.isConnected || document.hidden || told.has(reference)) return;
    told.add(reference);
    waiting.push(reference);
    clearTimeout(sending);
    sending = setTimeout(send, WAIT_MS);
  };

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      clearTimeout(timers.get(target));
      if (isIntersecting) timers.set(target, setTimeout(note, SEEN_MS, target));
    }
  }, { threshold: 0.5 });

  const watch = () => {
    observer.disconnect();
    document.querySelectorAll('#results .card > a[href*="?ref="]').forEach((link) => observer.observe(link));
  };

  document.addEventListener("htmx:afterSwap", watch);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) send(); // a page may end without another word
    else watch(); // what was in view all the while, unseen, is told of anew
  });
  addEventListener("pagehide", send);
  watch();
}
