// Draws the picture of each help page: the node of the page, at its defaults, between the nodes that
// it is connected to. The sizes are printed as one JSON object for tests/browser/test_help_pictures.py.
//
//     node help_pictures.mjs SETTINGS
//
// SETTINGS is a JSON object: url of the server, chromium and folder (for the pictures, PNG) as
// paths, and nodes, their types.

import path from "node:path";
import { chromium } from "playwright-core";
import { FLAGS, PATIENCE_MS, watch } from "./page.mjs";

// Where a link of a type usually comes from, and where it goes: a node's type and its slot.
const WIRING = {
  sources: {
    MODEL: ["LuminaNextModelLoader", 0],
    CLIP: ["LuminaNextTextEncoderLoader", 0],
    CONDITIONING: ["LuminaNextTextEncode", 0],
    LATENT: ["LuminaNextSize", 0],
    SIGMAS: ["LuminaNextScheduler", 0],
    VAE: ["VAELoader", 0],
    IMAGE: ["LoadImage", 0],
    MASK: ["LoadImage", 1],
    LUMINA_NEXT_REGIONS: ["LuminaNextRegion", 0],
  },
  targets: {
    MODEL: ["LuminaNextSampler", "model"],
    CLIP: ["LuminaNextTextEncode", "clip"],
    CONDITIONING: ["LuminaNextSampler", "positive"],
    LATENT: ["LuminaNextSampler", "latent_image"],
    SIGMAS: ["SamplerCustom", "sigmas"],
    SAMPLER: ["SamplerCustom", "sampler"],
    IMAGE: ["SaveImage", "images"],
    LUMINA_NEXT_REGIONS: ["LuminaNextRegions", "regions"],
  },
  // What the types do not tell.
  exceptions: {
    LuminaNextSampler: { LATENT: ["VAEDecode", "samples"] },
    LuminaNextTextEncode: { negative: ["LuminaNextSampler", "negative"] },
  },
};
// What a new node lacks here, or has too much of while nothing has run.
const CHANGES = {
  LuminaNextPackTextEncoder: { values: { folder: "gemma-2b" } },
  LuminaNextPlotSigmas: { size: [260, 90] },
};
const MARGIN = 28; // names of packs stand above nodes

async function main(settings) {
  const browser = await chromium.launch({ executablePath: settings.chromium, args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: { width: 1920, height: 1080 } });
    page.setDefaultTimeout(PATIENCE_MS);
    const watched = await watch(page, settings.url);
    await open(page, settings);
    const sizes = {};
    for (const type of settings.nodes) {
      await page.evaluate(addWired, [type, WIRING, CHANGES[type] ?? {}]);
      const clip = await showSettled(page);
      await page.screenshot({ path: path.join(settings.folder, `${type}.png`), clip });
      sizes[type] = [Math.round(clip.width), Math.round(clip.height)];
    }
    return { ...watched, sizes };
  } finally {
    await browser.close();
  }
}

async function open(page, { url }) {
  await page.goto(url);
  await page.waitForFunction(
    () => window.app?.graph && window.LiteGraph?.registered_node_types.LuminaNextSampler,
  );
  await page.waitForTimeout(2500);
  await page.keyboard.press("Escape"); // the templates, which a new user is offered
  await page.evaluate(async () => {
    const { command, setting } = window.app.extensionManager;
    await setting.set("Comfy.VueNodes.Enabled", false);
    await setting.set("Comfy.ColorPalette", "dark");
    await command.execute("Workspace.ToggleFocusMode");
    // The canvas cuts titles of folded nodes to 20 letters.
    const { substr } = String.prototype;
    String.prototype.substr = function (start, length) {
      return start === 0 && length === 20 ? String(this) : substr.call(this, start, length);
    };
  });
}

// The node with its neighbors folded: sources on the left, targets on the right.
function addWired([type, { sources, targets, exceptions }, { values = {}, size }]) {
  const { graph } = window.app;
  const special = exceptions[type] ?? {};
  graph.clear();
  // With an id of a node before it, a node gets the values of its widgets.
  window.lastId = (window.lastId ?? 0) + 1000;
  graph.last_node_id = window.lastId;
  const add = (type) => {
    const node = window.LiteGraph.createNode(type);
    graph.add(node);
    return node;
  };
  const neighbors = new Map();
  const neighbor = (key, type) => {
    if (!neighbors.has(key)) neighbors.set(key, add(type));
    return neighbors.get(key);
  };
  const node = add(type);
  if (size) node.setSize(size);
  for (const [name, value] of Object.entries(values)) {
    node.widgets.find((widget) => widget.name === name).value = value;
  }
  for (const [slot, input] of [...node.inputs.entries()]) {
    const [source, output] = sources[input.type] ?? [];
    if (!source || source === type || input.widget) continue;
    const isSecond = input.name === "negative"; // the same node's other output
    neighbor(`from ${source}`, source).connect(isSecond ? 1 : output, node, slot);
  }
  for (const [slot, output] of node.outputs.entries()) {
    const [target, input] = special[output.name] ?? special[output.type] ?? targets[output.type] ?? [];
    if (!target || (target === type && slot) || (type === "LuminaNextSampler" && slot)) continue;
    const other = neighbor(`to ${target}`, target);
    node.connect(slot, other, other.inputs.findIndex(({ name }) => name === input));
  }
  let [left, right] = [0, 0];
  for (const [key, other] of neighbors) {
    other.flags.collapsed = true;
    const isSource = key.startsWith("from");
    const row = isSource ? left++ : right++;
    other.pos = isSource ? [-320, 20 + row * 70] : [node.size[0] + 60, 20 + row * 70];
  }
}

// Shows all nodes until they no longer grow by what is drawn on them.
async function showSettled(page) {
  let clip = await page.evaluate(show, MARGIN);
  for (let [same, tries] = [0, 0]; same < 2 && tries < 20; tries++) {
    await page.waitForTimeout(700);
    const now = await page.evaluate(show, MARGIN);
    same = now.height === clip.height && now.width === clip.width ? same + 1 : 0;
    clip = now;
  }
  return clip;
}

// Brings all nodes into view: their box on the screen, in pixels.
function show(margin) {
  const { canvas, graph } = window.app;
  const boxes = graph.nodes.map((node) => {
    const [x, y, width, height] = node.getBounding();
    return [x, y, x + width, y + height];
  });
  const [left, top] = [0, 1].map((side) => Math.min(...boxes.map((box) => box[side])) - margin);
  const [right, bottom] = [2, 3].map((side) => Math.max(...boxes.map((box) => box[side])) + margin);
  const corner = 100;
  canvas.deselectAll();
  canvas.ds.scale = 1;
  canvas.ds.offset = [corner - left, corner - top];
  canvas.setDirty(true, true);
  const { x, y } = canvas.canvas.getBoundingClientRect();
  return { x: x + corner, y: y + corner, width: right - left, height: bottom - top };
}

console.log(JSON.stringify(await main(JSON.parse(process.argv[2]))));
