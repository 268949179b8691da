// Explorers of contrastive geometry: embedded trajectories and loss surfaces that turn. All numbers are on the page, in
// the attributes that sslnb/studies/contrastive_geometry/explorers.py writes.

// White for 0 to blue for 1, and black or white letters, whichever can be read on it.
function shaded(share) {
  const rgb = [0, 90, 160].map((blue) => Math.round(255 + share * (blue - 255)));
  const linear = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return [`rgb(${rgb.join(", ")})`, light > 0.18 ? "black" : "white"];
}

function cloudExplorer(root) {
  const facts = JSON.parse(root.dataset.facts);
  root.replaceChildren();
  const controls = element("div", root, { className: "layer-controls" });
  const cloud = choice(controls, "embedding", facts.clouds.map((one) => one.name), 0, () => refresh());
  const colour = choice(controls, "colour by", facts.colourings, 0, () => refresh());
  const run = choice(controls, "run", facts.runs.map((one) => one.name), 0, () => refresh());
  const task = choice(controls, "task", facts.tasks, 0, () => refresh());
  const epoch = slider(controls, "epoch", 0, facts.epochs - 1, facts.epochs - 1, () => refresh());
  const key = element("p", root, { className: "cloud-key" });
  const stage = element("div", root, { className: "explorer-stage" });
  const redraw = turntable(stage, controls, describe, -60, 25, draw);
  const side = element("div", stage, { className: "confusion" });
  const seeds = [...new Set(facts.runs.map((one) => one.seed))];

  const shown = () => facts.clouds[cloud.value];
  const own = () => (shown().tasks.includes(Number(task.value)) ? Number(task.value) : shown().tasks[0]);
  const shade = (share) => facts.palette[Math.round(share * (facts.palette.length - 1))];

  function place(index) {
    const tasks = shown().tasks;
    const per = tasks.length * facts.epochs;
    return [Math.floor(index / per), tasks[Math.floor((index % per) / facts.epochs)], index % facts.epochs];
  }

  function colourOf([r, t, e]) {
    const by = facts.colourings[colour.value];
    if (by === "epoch") return shade(e / (facts.epochs - 1));
    if (by === "progress") return shade(facts.progress[r][t][e]);
    const one = facts.runs[r];
    const groups = { method: [facts.methods, one.method], task: [facts.tasks, facts.tasks[t]], seed: [seeds, one.seed] };
    const [names, name] = groups[by];
    return facts.colours[names.indexOf(name) % facts.colours.length];
  }

  function showKey() {
    const by = facts.colourings[colour.value];
    const ends = { epoch: ["epoch 0", `epoch ${facts.epochs - 1}`], progress: ["progress 0", "progress 1"] }[by];
    const names = { method: facts.methods, task: facts.tasks, seed: seeds }[by] ?? ends;
    key.replaceChildren();
    names.forEach((name, i) => {
      const item = element("span", key, { className: "cloud-name" });
      const dot = element("span", item, { className: "cloud-dot" });
      dot.style.background = ends ? facts.palette[i * (facts.palette.length - 1)] : facts.colours[i % facts.colours.length];
      item.append(` ${name}`);
    });
    element("span", key, { textContent: "■ ignorance ★ truth ○ chosen" });
  }

  const describe_run = () => `${facts.runs[run.value].name}, ${facts.tasks[own()]}, epoch ${epoch.value}`;
  function describe() {
    return `InPCA of ${shown().name} in three dimensions; chosen: ${describe_run()}`;
  }

  function draw(context, project) {
    const points = shown().points;
    const middle = [0, 1, 2].map((k) => points.reduce((sum, p) => sum + p[k], 0) / points.length);
    const reach = Math.max(...points.flatMap((p) => p.map((v, k) => Math.abs(v - middle[k])))) || 1;
    const placed = points.map((p) => project(p.map((v, k) => (v - middle[k]) / reach)));
    const models = placed.slice(0, -2).map((at, i) => [at, place(i)]);
    models.sort((a, b) => a[0][2] - b[0][2]); // the nearest last
    for (const [[x, y], where] of models) {
      context.fillStyle = colourOf(where);
      context.beginPath();
      context.arc(x, y, 2.5, 0, 7);
      context.fill();
    }
    context.fillStyle = "black";
    context.font = "22px sans-serif";
    ["■", "★"].forEach((mark, i) => {
      const [x, y] = placed[points.length - 2 + i];
      context.fillText(mark, x - 9, y + 8);
    });
    const tasks = shown().tasks;
    const start = (Number(run.value) * tasks.length + tasks.indexOf(own())) * facts.epochs;
    const [x, y] = placed[start + Number(epoch.value)];
    context.strokeStyle = "red";
    context.lineWidth = 0.8;
    context.beginPath();
    placed.slice(start, start + facts.epochs).forEach(([a, b], k) => (k ? context.lineTo(a, b) : context.moveTo(a, b)));
    context.stroke();
    context.lineWidth = 2;
    context.beginPath();
    context.arc(x, y, 8, 0, 7);
    context.stroke();
  }

  function confusion() {
    const [r, t, e] = [Number(run.value), own(), Number(epoch.value)];
    const counts = facts.confusion[r][t][e];
    side.replaceChildren();
    element("p", side, { textContent: `${describe_run()}: progress ${facts.progress[r][t][e].toFixed(3)}` });
    const table = element("table", side, {});
    element("caption", table, { textContent: "true classes in rows, predicted ones in columns" });
    const head = element("tr", element("thead", table));
    ["", ...facts.classes[t]].forEach((name) => element("th", head, { textContent: name, scope: "col" }));
    const body = element("tbody", table);
    counts.forEach((row, i) => {
      const line = element("tr", body);
      element("th", line, { textContent: facts.classes[t][i], scope: "row" });
      const total = row.reduce((sum, n) => sum + n, 0) || 1;
      row.forEach((n) => {
        const cell = element("td", line, { textContent: n });
        [cell.style.background, cell.style.color] = shaded(n / total);
      });
    });
  }

  function refresh() {
    showKey();
    redraw();
    confusion();
  }
  refresh();
}

function surfaceExplorer(root) {
  const facts = JSON.parse(root.dataset.facts);
  root.replaceChildren();
  const controls = element("div", root, { className: "layer-controls" });
  const method = choice(controls, "method", facts.methods, 0, () => redraw());
  const redraw = turntable(root, controls, () => `Loss around the weights of ${facts.methods[method.value]}`, -60, 30, draw);

  const all = facts.heights.flat(2).filter((height) => height !== null);
  const [low, high] = [Math.min(...all), Math.max(...all)];

  function draw(context, project) {
    const heights = facts.heights[method.value];
    const span = facts.at[facts.at.length - 1];
    const share = (height) => (height - low) / (high - low || 1);
    const corner = (i, j) => [facts.at[i] / span, facts.at[j] / span, 1.2 * share(heights[i][j]) - 0.6];
    const faces = [];
    for (let i = 0; i + 1 < heights.length; i += 1) {
      for (let j = 0; j + 1 < heights.length; j += 1) {
        const around = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
        if (around.some(([a, b]) => heights[a][b] === null)) continue; // a gap stays open
        const corners = around.map(([a, b]) => project(corner(a, b)));
        const mean = around.reduce((sum, [a, b]) => sum + share(heights[a][b]), 0) / 4;
        faces.push([corners.reduce((sum, c) => sum + c[2], 0), corners, mean]);
      }
    }
    faces.sort((a, b) => a[0] - b[0]); // the nearest last
    for (const [, corners, mean] of faces) {
      const colour = facts.palette[Math.round(mean * (facts.palette.length - 1))];
      context.fillStyle = colour;
      context.strokeStyle = colour;
      context.beginPath();
      corners.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.closePath();
      context.fill();
      context.stroke();
    }
    context.fillStyle = "black";
    context.font = "16px sans-serif";
    const loss = (height) => (10 ** height).toPrecision(3);
    const middle = heights[heights.length >> 1][heights.length >> 1];
    const ends = `scale from ${loss(low)} to ${loss(high)}, logarithmic`;
    context.fillText(`loss at the weights ${middle === null ? "not finite" : loss(middle)}; ${ends}`, 12, 24);
  }
  redraw();
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".cloud-explorer").forEach(cloudExplorer);
  document.querySelectorAll(".surface-explorer").forEach(surfaceExplorer);
});
