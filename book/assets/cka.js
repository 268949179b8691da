// Explorer of layer similarity: a map of two networks' layers, and the nearest neighbours of an image in two of them.
// All numbers are on the page, in the attributes that sslnb/studies/cka/explorers.py writes.

function meanOf(facts, [m, s], [n, t]) {
  const seeds = [...facts.cka[m].keys()];
  let pairs = seeds.flatMap((i) => seeds.map((j) => [i, j]));
  pairs = pairs.filter(([i, j]) => (s === -1 || s === i) && (t === -1 || t === j));
  const different = pairs.filter(([i, j]) => i !== j);
  if (m === n && (s === -1 || t === -1) && different.length) pairs = different;
  return (row, column) => pairs.reduce((sum, [i, j]) => sum + facts.cka[m][i][n][j][row][column], 0) / pairs.length;
}

function thumbnail(facts, sprite, parent, at, title) {
  const picture = element("span", parent, { className: "layer-picture", title });
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", title);
  const rows = Math.ceil(facts.labels.length / facts.columns);
  picture.style.backgroundImage = `url(${sprite})`;
  picture.style.backgroundSize = `${100 * facts.columns}% ${100 * rows}%`;
  const x = facts.columns > 1 ? (at % facts.columns) / (facts.columns - 1) : 0;
  const y = rows > 1 ? Math.floor(at / facts.columns) / (rows - 1) : 0;
  picture.style.backgroundPosition = `${100 * x}% ${100 * y}%`;
}

function layerExplorer(root) {
  const facts = JSON.parse(root.dataset.facts);
  const names = facts.networks.map((network) => network.name);
  const seeds = facts.cka[0].length;
  root.replaceChildren();
  const controls = element("div", root, { className: "layer-controls" });
  const rows = choice(controls, "rows", names, facts.methods.length, () => draw());
  const columns = choice(controls, "columns", names, facts.methods.length + seeds, () => draw());
  const parity = choice(controls, "layers", Object.keys(facts.shown), 0, () => draw());
  const query = choice(controls, "image", facts.queries.map((at, i) => `${i + 1}: ${facts.labels[at]}`), 0, () => show());
  const map = element("div", root, { className: "layer-map" });
  map.setAttribute("role", "group");
  const said = element("p", root, { className: "layer-said" });
  const strips = element("div", root, { className: "layer-strips" });
  let pair = null;
  let focus = null;

  const network = (select) => facts.networks[select.value].at;

  function draw() {
    const value = meanOf(facts, network(rows), network(columns));
    const shown = Object.values(facts.shown)[parity.value];
    map.replaceChildren();
    map.style.gridTemplateColumns = `repeat(${shown.length}, 1fr)`;
    map.setAttribute("aria-label", `CKA of layers of ${names[rows.value]} (rows) and ${names[columns.value]} (columns)`);
    for (const i of [...shown].reverse()) {
      for (const j of shown) {
        const cka = value(i, j);
        const title = `${facts.layers[i]} × ${facts.layers[j]}: ${cka.toFixed(3)}`;
        const cell = element("button", map, { className: "layer-cell", type: "button", title, tabIndex: -1 });
        const shade = Math.round(Math.min(Math.max(cka, 0), 1) * (facts.palette.length - 1));
        cell.style.background = facts.palette[shade];
        cell.setAttribute("aria-label", title);
        cell.dataset.pair = `${i},${j}`;
        cell.addEventListener("click", () => select(i, j));
      }
    }
    const kept = pair && shown.includes(pair[0]) && shown.includes(pair[1]);
    select(...(kept ? pair : [shown[shown.length - 1], shown[shown.length - 1]]));
  }

  function select(i, j) {
    pair = [i, j];
    if (focus) focus.tabIndex = -1;
    map.querySelector(".chosen")?.classList.remove("chosen");
    focus = map.querySelector(`[data-pair="${i},${j}"]`);
    focus.classList.add("chosen");
    focus.tabIndex = 0;
    show();
  }

  // The map is one stop of the Tab key; arrows move within it.
  map.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const shown = Object.values(facts.shown)[parity.value];
    const at = pair.map((layer, k) => shown.indexOf(layer) + moves[event.key][k]);
    if (at.every((place) => place >= 0 && place < shown.length)) {
      select(...at.map((place) => shown[place]));
      focus.focus();
    }
  });

  function show() {
    const value = meanOf(facts, network(rows), network(columns))(...pair);
    said.textContent = `${facts.layers[pair[0]]} (row) × ${facts.layers[pair[1]]} (column): CKA ${value.toFixed(3)}`;
    strips.replaceChildren();
    [[network(rows)[0], pair[0]], [network(columns)[0], pair[1]]].forEach(([method, layer]) => {
      const strip = element("div", strips, { className: "layer-strip" });
      element("span", strip, { textContent: `${facts.methods[method]}, first seed, ${facts.layers[layer]}` });
      const at = facts.queries[query.value];
      thumbnail(facts, root.dataset.sprite, strip, at, `the image, ${facts.labels[at]}`);
      element("span", strip, { textContent: "→", className: "layer-arrow" });
      for (const near of facts.nearest[method][layer][query.value]) {
        thumbnail(facts, root.dataset.sprite, strip, near, `a neighbour, ${facts.labels[near]}`);
      }
    });
  }

  draw();
}

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".layer-explorer").forEach(layerExplorer));
