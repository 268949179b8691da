// The widgets' modules, and the fonts that they look for beside them, are in this script's own folder.
const widgets = new URL(".", document.currentScript.src).href.replace(/\/$/, "");
require.config({ paths: { "@jupyter-widgets": widgets, "@jupyter-widgets/html-manager/dist": widgets } });

// Widgets typeset their labels as MathJax 2 did, and fail on the absence of its Hub under MathJax 3.
window.addEventListener("load", () => {
  if (window.MathJax && !MathJax.Hub) MathJax.Hub = { Queue: ([, , element]) => MathJax.typesetPromise([element]) };
});
