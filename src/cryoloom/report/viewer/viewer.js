const at = id => document.getElementById(id);
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fewKinds = ["#2f7ebc", "#d9822b", "#3f9b6c", "#b5477a", "#7a6fc0", "#8a8a3a", "#4aa7b5", "#c0504d"];
let points, chosen = null;

function look(more) {
  const axis = {gridcolor: colour("--grid"), zeroline: false, automargin: true};
  return {paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, showlegend: false,
    margin: {l: 50, r: 10, t: 30, b: 44}, font: {family: getComputedStyle(document.body).fontFamily, color: colour("--soft")},
    xaxis: {...axis, title: {text: at("x").value}}, yaxis: {...axis, title: {text: at("y").value}}, dragmode: "lasso", ...more};
}
function fill(id, names, first) {
  at(id).replaceChildren(...names.map(name => new Option(name, name, false, name === first)));
  at(id).onchange = drawPoints;
}
function drawPoints() {
  const x = points.coordinates[at("x").value], y = points.coordinates[at("y").value];
  const values = points.colours[at("colour").value];
  const kinds = ["cluster", "component", "half_set"].includes(at("colour").value);
  const marker = {size: points.particles.length > 4000 ? 4 : 6, opacity: 0.75, color: "#2f7ebc"};
  if (values) Object.assign(marker, kinds ? {color: values.map(v => fewKinds[v % fewKinds.length])}
    : {color: values, colorscale: "Viridis", showscale: true, colorbar: {thickness: 10}});
  const traces = [{type: "scattergl", mode: "markers", x, y, marker, customdata: points.particles,
    text: values ? values.map(v => at("colour").value + " " + v) : undefined,
    hovertemplate: "particle %{customdata} %{text}<extra></extra>"}];
  const where = chosen === null ? -1 : points.particles.indexOf(chosen);
  if (where >= 0) traces.push({type: "scatter", mode: "markers", x: [x[where]], y: [y[where]], hoverinfo: "skip",
    marker: {size: 16, color: "rgba(0,0,0,0)", line: {width: 2.5, color: colour("--ink")}}});
  Plotly.react("points", traces, look({}), {responsive: true, displaylogo: false});
}
async function show(particle) {
  at("surface").classList.add("waiting");
  const answer = await (await fetch("/map" + (particle === null ? "" : "?particle=" + particle))).json();
  at("surface").classList.remove("waiting");
  if (answer.error) { at("said").textContent = answer.error; return; }
  const [x, y, z] = answer.vertices, [i, j, k] = answer.faces, hidden = {visible: false};
  Plotly.react("surface", [{type: "mesh3d", x, y, z, i, j, k, color: "#8fb4d4", hoverinfo: "skip",
    lighting: {ambient: 0.45, diffuse: 0.75, specular: 0.25, roughness: 0.5, fresnel: 0.1},
    lightposition: {x: 1000, y: 1500, z: 2500}}],
    look({margin: {l: 0, r: 0, t: 0, b: 0}, uirevision: "same", dragmode: "orbit",
      scene: {xaxis: hidden, yaxis: hidden, zaxis: hidden, aspectmode: "data", uirevision: "same"}}),
    {responsive: true, displaylogo: false, displayModeBar: false});
  at("planes").replaceChildren(...answer.images.map(([caption, uri]) => {
    const figure = document.createElement("figure"), image = new Image(), said = document.createElement("figcaption");
    image.src = uri; image.alt = said.textContent = caption;
    figure.append(image, said);
    return figure;
  }));
  at("facts").replaceChildren(...answer.facts.map(([name, value]) => {
    const row = document.createElement("tr");
    for (const text of [name, value]) row.append(Object.assign(document.createElement("td"), {textContent: text}));
    return row;
  }));
}
function keep(rows) {
  const link = at("keep");
  link.hidden = !rows.length;
  link.textContent = "keep the rows of " + rows.length + " particles (for select --ind)";
  link.download = "rows.txt";
  link.href = URL.createObjectURL(new Blob([rows.join("\n") + "\n"], {type: "text/plain"}));
}
async function begin() {
  points = await (await fetch("/points")).json();
  if (points.error) { at("said").textContent = points.error; return; }
  const names = Object.keys(points.coordinates), colours = Object.keys(points.colours);
  fill("x", names, names[0]); fill("y", names, names[1]); fill("colour", [...colours, "none"], colours[0]);
  drawPoints();
  if (points.total > points.particles.length)
    at("said").textContent += " Shown are " + points.particles.length + " of " + points.total + " particles.";
  at("points").on("plotly_click", event => {
    const found = event.points[0].customdata;
    if (found === undefined) return;
    chosen = found; drawPoints(); show(chosen);
  });
  at("points").on("plotly_selected", event => keep(event ? event.points.map(p => p.customdata) : []));
  const asked = new URLSearchParams(location.search).get("particle");
  chosen = asked === null ? null : Number(asked);
  if (chosen !== null) drawPoints();
  show(chosen);
}
begin();
