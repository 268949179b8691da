// Draws the explorers that sslnb/report/charts.py leaves on a page. Vega is loaded only where there are some.

const NARROW = 700; // pixels: below it, panels stand one below the other
const here = document.currentScript.src;

// Each table of a chart is the target of its link to CSV, so that a page holds it once.
function tablesOf(root) {
  const text = (link) => decodeURIComponent(link.href.slice(link.href.indexOf(",") + 1));
  return Object.fromEntries([...root.querySelectorAll("[data-table]")].map((a) => [a.dataset.table, text(a)]));
}

function inkOf(root) {
  return getComputedStyle(root).color;
}

async function draw(root) {
  const spec = JSON.parse(root.querySelector("script").textContent);
  const tables = tablesOf(root);
  for (const data of spec.data) if (data.name in tables) data.values = tables[data.name];
  if (spec.layout && root.clientWidth < NARROW) spec.layout.columns = 1;
  const [chart, controls] = ["chart", "controls"].map((part) => root.querySelector(`.explorer-${part}`));
  const view = new vega.View(vega.parse(spec), { renderer: "svg", hover: true });
  view.signal("ink", inkOf(root));
  const picture = chart.firstElementChild;
  await view.initialize(chart, controls).runAsync();
  picture.remove();
  chart.querySelector("svg").setAttribute("aria-label", root.getAttribute("aria-label"));
  const themed = new MutationObserver(() => view.signal("ink", inkOf(root)).runAsync());
  themed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  root.dataset.drawn = "";
}

// On paper what is folded is opened; code stays behind (page.css).
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));

addEventListener("DOMContentLoaded", () => {
  const roots = [...document.querySelectorAll(".explorer")];
  if (!roots.length) return;
  const script = document.createElement("script");
  script.src = new URL("vega/vega.min.js", here).href;
  const amd = window.define; // which require.js, where a page has it, would make Vega hide behind
  window.define = undefined;
  script.addEventListener("load", () => {
    window.define = amd;
    const seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        seen.unobserve(target);
        draw(target);
      }
    }, { rootMargin: "600px" });
    roots.forEach((root) => seen.observe(root));
  });
  document.head.append(script);
});

// What scrolls sideways says so, and can be scrolled by keyboard, too.
function reachable() {
  for (const box of document.querySelectorAll(".bd-content :is(figure, .output, div.math, .pst-scrollable-table-container)")) {
    const wide = box.scrollWidth > box.clientWidth + 1;
    box.classList.toggle("wide", wide);
    box.tabIndex = wide ? 0 : -1;
  }
}
for (const moment of ["load", "resize"]) addEventListener(moment, reachable);
