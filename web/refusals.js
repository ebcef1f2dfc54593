// Why a node was refused or failed, at the node and in whole, without a click: for the pack's
// nodes, and for others that fail by what the pack says.
//
// The editor's own message says which node, not why, and calls an input by its id. Here the
// sentence stands above the node, on the classic canvas and in Nodes 2.0, at every zoom. It is no
// part of the graph, and goes when the node is changed or the graph is run again.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const MARGIN = 8; // px
const PACK = new URL(import.meta.url).pathname.split("/").at(-2); // its folder's name
const STYLE = `
  .lumina-next-refusal {
    position: fixed; z-index: 900; box-sizing: border-box; max-width: 480px;
    padding: 8px 28px 8px 12px; border-radius: 8px;
    border: 1px solid var(--error-text, #f44); background: var(--comfy-menu-bg, #222);
    color: var(--fg-color, #fff); font: 14px/1.4 sans-serif; white-space: pre-line;
  }
  .lumina-next-refusal button {
    position: absolute; top: 4px; right: 4px; border: none; background: none;
    color: inherit; font-size: 16px; cursor: pointer;
  }`;

const shown = new Set();

app.registerExtension({
  name: "LuminaNext.Refusals",
  setup() {
    document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
    readAnswers();
    api.addEventListener("execution_error", ({ detail }) => showFailure(detail));
  },
  afterConfigureGraph: clear,
});

// Every answer to a graph that was handed in passes here before the editor shows it.
function readAnswers() {
  const queuePrompt = api.queuePrompt;
  api.queuePrompt = async function (...request) {
    clear();
    try {
      const answer = await queuePrompt.apply(this, request);
      showRefusals(answer.node_errors);
      return answer;
    } catch (error) {
      showRefusals(error.response?.node_errors);
      throw error;
    }
  };
}

function showRefusals(nodeErrors) {
  for (const [id, { class_type, errors }] of Object.entries(nodeErrors ?? {})) {
    const nodes = nodesOf(id);
    const refusals = errors.filter((error) => error.type === "custom_validation_failed");
    if (!class_type.startsWith("LuminaNext") || !refusals.length || !nodes.length) continue;
    for (const refusal of refusals) callByLabel(refusal, nodes.at(-1));
    show(nodes, refusals.map((refusal) => refusal.details).join("\n"));
  }
}

// "model_name - not found" becomes "not found", about the input that the editor shows as "model".
function callByLabel(refusal, node) {
  const name = refusal.extra_info.input_name;
  refusal.details = refusal.details.replace(`${name} - `, "");
  const widget = node.widgets?.find((candidate) => candidate.name === name);
  refusal.extra_info.input_name = widget?.label ?? name;
}

function showFailure(failure) {
  const sentence = wrongVae(failure) ?? (isOurs(failure) ? failure.exception_message.trim() : "");
  const nodes = nodesOf(failure.node_id);
  if (sentence && nodes.length) show(nodes, sentence);
}

// Whether the node is the pack's, or the error was raised by its code inside another node.
function isOurs({ node_type, traceback }) {
  const [last] = traceback.slice(-1);
  return node_type.startsWith("LuminaNext") || last?.split(/[\\/]/).includes(PACK);
}

// "VAE Decode" says of a VAE for other latents only what torch says.
function wrongVae({ node_type, exception_message }) {
  const found = /to have (\d+) channels, but got 4 channels/.exec(exception_message);
  const isWithOurs = app.graph.nodes.some((node) => node.type.startsWith("LuminaNext"));
  if (!found || !isWithOurs || !node_type.startsWith("VAEDecode")) return undefined;
  return (
    `This VAE reads latents with ${found[1]} channels, those of Lumina-Next have 4. ` +
    'Choose an SDXL VAE in "Load VAE"; for the demo model, the demo\'s.'
  );
}

// The node of an execution id such as "3:7", after the subgraphs that it lies in.
function nodesOf(executionId) {
  const nodes = [];
  let graph = app.rootGraph ?? app.graph;
  for (const id of String(executionId).split(":")) {
    const node = graph?.getNodeById(id);
    if (!node) break;
    nodes.push(node);
    graph = node.subgraph;
  }
  return nodes;
}

function show(nodes, text) {
  const element = document.createElement("div");
  element.className = "lumina-next-refusal";
  element.setAttribute("role", "alert");
  element.textContent = text;
  const button = document.createElement("button");
  button.textContent = "×";
  const refusal = { nodes, element, values: valuesOf(nodes.at(-1)) };
  button.addEventListener("click", () => remove(refusal));
  element.append(button);
  document.body.append(element);
  bringIntoView(visible(nodes));
  shown.add(refusal);
  if (shown.size === 1) requestAnimationFrame(followAll);
}

function clear() {
  for (const refusal of shown) remove(refusal);
}

function remove(refusal) {
  refusal.element.remove();
  shown.delete(refusal);
}

// What the user has set on it. Pictures and messages on a node come and go by themselves, and a
// seed is changed by the editor after each run, perhaps when the run has failed already.
function valuesOf(node) {
  const isSet = (widget) => widget.serialize !== false && !isChangedByRuns(widget);
  return JSON.stringify(node.widgets?.filter(isSet).map((widget) => widget.value));
}

function isChangedByRuns(widget) {
  return widget.linkedWidgets?.some((linked) => linked.name === "control_after_generate");
}

// The node itself, or the subgraph around it that is open on the canvas.
function visible(nodes) {
  return nodes.findLast((node) => app.canvas.graph?.getNodeById(node.id) === node);
}

function bringIntoView(node) {
  if (!node) return;
  const { left, top } = positionOf(node);
  const box = app.canvas.canvas.getBoundingClientRect();
  const isInside = left > box.left && left < box.right && top > box.top && top < box.bottom;
  if (!isInside) app.canvas.centerOnNode(node);
}

function followAll() {
  for (const refusal of shown) {
    if (valuesOf(refusal.nodes.at(-1)) === refusal.values) follow(refusal);
    else remove(refusal);
  }
  if (shown.size) requestAnimationFrame(followAll);
}

// Above the node, and always on the screen.
function follow({ nodes, element }) {
  const node = visible(nodes);
  element.style.display = node ? "" : "none";
  if (!node) return;
  const { left, top } = positionOf(node);
  const { offsetWidth, offsetHeight } = element;
  const within = (value, high) => Math.max(MARGIN, Math.min(value, high - MARGIN));
  element.style.left = `${within(left, window.innerWidth - offsetWidth)}px`;
  element.style.top = `${within(top - offsetHeight - MARGIN, window.innerHeight - offsetHeight)}px`;
}

// The upper left corner of the node's title on the screen, in pixels.
function positionOf(node) {
  const { canvas, ds } = app.canvas;
  const box = canvas.getBoundingClientRect();
  const [x, y] = node.pos;
  return {
    left: box.left + (x + ds.offset[0]) * ds.scale,
    top: box.top + (y - LiteGraph.NODE_TITLE_HEIGHT + ds.offset[1]) * ds.scale,
  };
}
