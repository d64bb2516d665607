// Small things on top of pages that work without them.
const announcer = document.getElementById("announcer");
const isWide = matchMedia("(min-width: 52.01rem)");
const unfolded = new Map();

function showWithoutPicture(image) {
  // The drawing of a box lies behind each picture: one that cannot be loaded makes room for it.
  if (image.tagName === "IMG" && image.closest(".picture")) image.remove();
}

function unfoldFilters() {
  // For browsers in which a style sheet cannot hold a <details> open.
  const filters = document.querySelector(".facets");
  if (filters && isWide.matches && !CSS.supports("selector(::details-content)")) filters.open = true;
}

function rememberUnfolded() {
  document.querySelectorAll("#results details").forEach((part) => unfolded.set(part.dataset.facet ?? "", part.open));
}

function restoreUnfolded(results) {
  results.querySelectorAll("details").forEach((part) => {
    const wasOpen = unfolded.get(part.dataset.facet ?? "");
    if (wasOpen !== undefined) part.open = wasOpen;
  });
}

function say(text) {
  const notice = document.createElement("p");
  notice.className = "notice";
  notice.textContent = announcer.textContent = text;
  document.querySelectorAll("#results > .notice").forEach((old) => old.remove());
  document.getElementById("results")?.prepend(notice);
}

document.addEventListener("error", (event) => showWithoutPicture(event.target), true);
document.querySelectorAll(".picture img").forEach((image) => {
  if (image.complete) image.decode().catch(() => showWithoutPicture(image)); // it failed before this script ran
});

document.addEventListener("htmx:beforeRequest", rememberUnfolded);
document.addEventListener("htmx:afterSwap", () => {
  const results = document.getElementById("results");
  if (!results) return;
  unfoldFilters();
  restoreUnfolded(results);
  const box = document.getElementById("q");
  if (document.activeElement !== box) box.value = results.dataset.query;
  const heading = results.querySelector("h1");
  // htmx keeps the focus on a filter that is still there; from what is gone it goes to the heading.
  if (document.activeElement === document.body) heading.focus({ preventScroll: true });
  announcer.textContent = heading.textContent.replace(/\s+/g, " ").trim();
});
document.addEventListener("htmx:responseError", (event) => {
  // What went wrong has a page of its own: go and see it.
  location.href = event.detail.pathInfo.finalRequestPath;
});
document.addEventListener("htmx:sendError", () => say("The shop cannot be reached. Check the connection and try again."));
isWide.addEventListener("change", unfoldFilters);
unfoldFilters();
