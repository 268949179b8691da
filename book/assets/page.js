// Runs before every other script of a page.

// The theme's FontAwesome replaces every icon by a picture, also those that ipywidgets' Play button changes later,
// which then fails. Without observing changes it replaces only what the page came with.
window.FontAwesomeConfig = { observeMutations: false };

// An ipywidgets Image can have no alternative text, and fails when given a tooltip. It can have a class: one that starts
// with "alt:" holds the text, with no-break spaces for spaces. Without one, the figure's caption has to do.
function describe(image) {
  const own = [...image.classList].find((name) => name.startsWith("alt:"));
  const caption = image.closest("figure")?.querySelector("figcaption")?.innerText ?? "";
  image.alt = own ? own.slice(4).replaceAll("\u00a0", " ") : caption.replace(/#$/, "").trim();
}

new MutationObserver(() => {
  document.querySelectorAll("img.widget-image:not([alt])").forEach(describe);
  // ipywidgets writes the absence of a tooltip as one that says "null".
  document.querySelectorAll('.jupyter-widgets [title="null"]').forEach((label) => label.removeAttribute("title"));
}).observe(document.documentElement, { childList: true, subtree: true });
