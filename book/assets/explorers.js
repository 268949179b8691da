// Parts that the explorers of cka.js and contrastive_geometry.js share.

function element(tag, parent, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  parent.append(made);
  return made;
}

function choice(parent, text, options, selected, changed) {
  const label = element("label", parent, { textContent: `${text} ` });
  const select = element("select", label);
  options.forEach((option, i) => element("option", select, { textContent: option, value: i, selected: i === selected }));
  select.addEventListener("change", changed);
  return select;
}

function slider(parent, text, min, max, value, changed) {
  const label = element("label", parent, { textContent: `${text} ` });
  const input = element("input", label, { type: "range", min, max, value });
  const shown = element("output", label, { textContent: value });
  input.addEventListener("input", () => {
    shown.textContent = input.value;
    changed();
  });
  return input;
}

// A canvas whose picture turns: draw(context, project) is called anew whenever the angles change, by dragging or by the
// two sliders; project maps three coordinates in [-1, 1] to [x, y, depth], the depth greater for what is nearer.
function turntable(parent, controls, label, azimuth, elevation, draw) {
  const canvas = element("canvas", parent, { width: 640, height: 560, className: "turntable" });
  canvas.setAttribute("role", "img");
  const turn = slider(controls, "azimuth", -180, 180, azimuth, () => redraw());
  const tilt = slider(controls, "elevation", -90, 90, elevation, () => redraw());
  let from = null;
  canvas.addEventListener("pointerdown", (event) => {
    from = [event.clientX, event.clientY, Number(turn.value), Number(tilt.value)];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) return;
    const angle = from[2] - (event.clientX - from[0]) / 2;
    turn.value = ((angle + 540) % 360) - 180;
    tilt.value = Math.max(-90, Math.min(90, from[3] + (event.clientY - from[1]) / 2));
    [turn, tilt].forEach((input) => input.dispatchEvent(new Event("input")));
  });
  ["pointerup", "pointercancel"].forEach((name) => canvas.addEventListener(name, () => { from = null; }));

  function redraw() {
    const [a, e] = [turn, tilt].map((input) => (Number(input.value) * Math.PI) / 180);
    const reach = 0.36 * canvas.width;
    const project = ([x, y, z]) => {
      const across = -x * Math.sin(a) + y * Math.cos(a);
      const away = x * Math.cos(a) + y * Math.sin(a);
      const up = z * Math.cos(e) - away * Math.sin(e);
      const depth = away * Math.cos(e) + z * Math.sin(e);
      return [canvas.width / 2 + across * reach, canvas.height / 2 - up * reach, depth];
    };
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    canvas.setAttribute("aria-label", label());
    draw(context, project);
  }
  return redraw;
}
