// Puts a picture of its settings on a node and keeps it in step with them. The numbers come from
// the server, host/previews.py. The picture is no input: nothing of it is saved or run.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { HEIGHT_PX, PLOT, Plot } from "./plot.js";

// No event tells of every change: of either renderer, of undo, of links, of other extensions.
const LOOK_EVERY_MS = 100;
const MARGIN_PX = 10;

/**
 * @param {object} node of the editor
 * @param {string} name of the preview, as the server knows it
 * @param {string[]} inputs that it depends on; those that a choice brings belong to it
 * @param {(numbers: object) => import("./plot.js").Drawing} draw
 */
export function addPreview(node, name, inputs, draw) {
  const plot = new Plot();
  const height = () => HEIGHT_PX + 2 * MARGIN_PX;
  const widget = node.addDOMWidget("preview", "lumina_preview", plot.element, {
    serialize: false,
    hideInPanel: true, // it can stand in one place only
    hideOnZoom: false,
    margin: MARGIN_PX,
    getMinHeight: height,
    getMaxHeight: height,
  });
  widget.serialize = false; // in the saved graph; the option is for the one that runs
  plot.element.addEventListener("wheel", zoomCanvas);

  let shown;
  async function look() {
    const widgets = widgetsOf(node, inputs);
    const linked = widgets.find((widget) => isLinked(node, widget));
    const query = linked ? linked.name : String(new URLSearchParams(widgets.map(pair)));
    if (!plot.element.isConnected) takeOver(node, plot);
    if (query === shown || !plot.element.isConnected) return;
    shown = query;
    if (linked) return plot.showText(`${labelOf(linked)} comes from another node`);
    const numbers = await ask(name, query);
    if (query !== shown) return; // an answer that was overtaken
    if (numbers.problem) plot.showText(numbers.problem);
    else plot.show(draw(numbers));
  }
  let timer;
  // Not before: the editor also makes nodes that never come into a graph.
  before(node, "onAdded", () => (timer = setInterval(look, LOOK_EVERY_MS)));
  before(node, "onRemoved", () => clearInterval(timer));
}

/** Calls `act` before what the node does at an event of the editor. */
function before(node, event, act) {
  const then = node[event];
  node[event] = function (...given) {
    act();
    return then?.apply(this, given);
  };
}

/**
 * Nodes 2.0 keeps showing the picture of the node that had this one's id before an undo.
 * @param {object} node
 * @param {Plot} plot
 */
function takeOver(node, plot) {
  if (node.graph !== app.canvas?.graph) return; // ids repeat between a graph and its subgraphs
  document.querySelector(`[data-node-id="${node.id}"] .${PLOT}`)?.replaceWith(plot.element);
}

/** The node's widgets for these inputs, in order. */
function widgetsOf(node, inputs) {
  return node.widgets.filter(({ name }) => inputs.includes(name.split(".")[0]));
}

function isLinked(node, widget) {
  return node.inputs.some((input) => input.widget?.name === widget.name && input.link != null);
}

function labelOf(widget) {
  return widget.label ?? widget.name;
}

function pair({ name, value }) {
  return [name, String(value)];
}

/** The mouse wheel zooms the graph, over the picture as beside it. @param {WheelEvent} event */
function zoomCanvas(event) {
  event.preventDefault();
  event.stopPropagation();
  app.canvas.canvas.dispatchEvent(new WheelEvent(event.type, event));
}

/** The server's numbers, or a `problem` in words. */
async function ask(name, query) {
  try {
    const path = `/lumina_next/preview/${name}?${query}`;
    const response = await api.fetchApi(path, { cache: "default" });
    return response.ok ? await response.json() : { problem: await response.text() };
  } catch {
    return { problem: "The server does not answer" };
  }
}
