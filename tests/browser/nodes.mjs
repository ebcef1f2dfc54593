// Looks at the pack's nodes in ComfyUI's editor, on the classic canvas and in Nodes 2.0: new nodes,
// refused files, what a run says on a node, and search. What was seen is printed as one JSON object
// for tests/browser/test_nodes.py.
//
//     node nodes.mjs SETTINGS
//
// SETTINGS is a JSON object: url of the server, chromium and folder (for screenshots) as paths,
// graph (the demo's, in API format), foreign (a model's file to be refused), encoder (a text
// encoder for another model) and vae (one that reads other latents).

import path from "node:path";
import { chromium } from "playwright-core";
import { FLAGS, PATIENCE_MS, watch } from "./page.mjs";

// Two, or the second run would take what the first one encoded.
const PROMPTS = { classic: "a cat on a red star", nodes2: "a cat in a blue ring" };

async function main(settings) {
  const browser = await chromium.launch({ executablePath: settings.chromium, args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: { width: 1920, height: 1080 } });
    page.setDefaultTimeout(PATIENCE_MS);
    const watched = await watch(page, settings.url);
    const seen = {};
    for (const renderer of ["classic", "nodes2"]) {
      await open(page, settings, renderer);
      const shoot = (name) =>
        page.screenshot({ path: path.join(settings.folder, `${renderer}-${name}.png`) });
      const refused = await refuse(page, settings, shoot);
      const { failed, stays } = await fail(page, settings);
      const said = await runUnknownWords(page, PROMPTS[renderer], settings, shoot);
      const fresh = await addNodes(page, shoot);
      seen[renderer] = { refused, failed, stays, said, fresh, found: await search(page, shoot) };
    }
    return { ...watched, ...seen };
  } finally {
    await browser.close();
  }
}

async function open(page, { url, graph }, renderer) {
  await page.goto(url);
  await page.waitForFunction(() => window.app?.graph && window.app.extensionManager);
  await page.waitForTimeout(2500);
  await page.keyboard.press("Escape"); // the templates, which a new user is offered
  await page.evaluate(
    async ([isOn, graph]) => {
      await window.app.extensionManager.setting.set("Comfy.VueNodes.Enabled", isOn);
      await window.app.loadApiJson(graph, "test");
    },
    [renderer === "nodes2", graph],
  );
  await page.waitForTimeout(1500); // until the nodes are drawn
}

async function setWidget(page, type, name, value) {
  await page.evaluate(
    ([type, name, value]) => {
      const node = window.app.graph.nodes.find((node) => node.type === type);
      node.widgets.find((widget) => widget.name === name).value = value;
    },
    [type, name, value],
  );
}

async function queue(page) {
  await page.evaluate(() => window.app.queuePrompt(0, 1));
}

// A file that is refused, at its node; the same far outside the view; and after another choice.
async function refuse(page, { foreign }, shoot) {
  const saved = await serialized(page);
  const chosen = await valueOf(page, "LuminaNextModelLoader", "model_name");
  await setWidget(page, "LuminaNextModelLoader", "model_name", foreign);
  await queue(page);
  const near = await refusals(page);
  const overlay = await page.locator("[data-testid=error-overlay]").allInnerTexts();
  await shoot("refused");
  await page.evaluate(() => (window.app.canvas.ds.offset = [9000, 9000]));
  await queue(page);
  const far = await refusals(page);
  await setWidget(page, "LuminaNextModelLoader", "model_name", chosen);
  await page.waitForTimeout(500);
  const after = await page.getByRole("alert").count();
  return { near, overlay, far, after, isUnchanged: (await serialized(page)) === saved };
}

async function valueOf(page, type, name) {
  return page.evaluate(
    ([type, name]) => {
      const node = window.app.graph.nodes.find((node) => node.type === type);
      return node.widgets.find((widget) => widget.name === name).value;
    },
    [type, name],
  );
}

async function serialized(page) {
  return page.evaluate(() => JSON.stringify(window.app.graph.serialize().nodes));
}

// Texts of the refusals on the screen, and whether they lie on it in whole.
async function refusals(page) {
  await page.locator(".lumina-next-refusal").first().waitFor();
  await page.waitForTimeout(500); // until they are in their places
  return page.evaluate(() =>
    [...document.querySelectorAll(".lumina-next-refusal")].map((element) => {
      const { left, top, right, bottom } = element.getBoundingClientRect();
      const isInside =
        left >= 0 && top >= 0 && right <= window.innerWidth && bottom <= window.innerHeight;
      return { text: element.firstChild.textContent, isInside };
    }),
  );
}

// A node of ComfyUI's own that fails by what the pack says.
async function fail(page, { encoder }) {
  const chosen = await valueOf(page, "LuminaNextTextEncoderLoader", "text_encoder_name");
  await setWidget(page, "LuminaNextTextEncoderLoader", "text_encoder_name", encoder);
  await queue(page);
  const failed = await refusals(page);
  await setWidget(page, "KSampler", "seed", 7); // as the editor does after a run
  await page.waitForTimeout(300);
  const stays = await page.locator(".lumina-next-refusal").count();
  await setWidget(page, "LuminaNextTextEncoderLoader", "text_encoder_name", chosen);
  return { failed, stays };
}

// A run with words that the demo model does not know, and with a VAE for other latents.
async function runUnknownWords(page, prompt, { vae }, shoot) {
  await page.evaluate((prompt) => {
    const { graph } = window.app;
    const node = window.LiteGraph.createNode("LuminaNextTextEncode");
    graph.add(node);
    const ofType = (type) => graph.nodes.find((node) => node.type === type);
    ofType("LuminaNextTextEncoderLoader").connect(0, node, 0);
    const sampler = ofType("KSampler");
    for (const [slot, name] of ["positive", "negative"].entries()) {
      node.connect(slot, sampler, sampler.inputs.findIndex((input) => input.name === name));
    }
    sampler.widgets.find((widget) => widget.name === "steps").value = 1;
    node.widgets[0].value = prompt;
    window.app.canvas.ds.scale = 1;
  }, prompt);
  await setWidget(page, "VAELoader", "vae_name", vae);
  await queue(page);
  const [channels] = await refusals(page);
  await page.evaluate(() => {
    const { canvas, graph } = window.app;
    canvas.centerOnNode(graph.nodes.find((node) => node.type === "LuminaNextTextEncode"));
    canvas.setDirty(true, true);
  });
  await page.waitForTimeout(500);
  await shoot("said");
  const report = page.locator("span, .comfy-markdown-content").filter({ hasText: "256 tokens" });
  const lines = (await report.first().innerText()).trim().split("\n");
  return { channels, lines };
}

// One new node of each type: its values, and every text that is drawn or stands on it.
async function addNodes(page, shoot) {
  const types = await page.evaluate(() => {
    const { canvas, graph } = window.app;
    graph.clear();
    const names = Object.keys(window.LiteGraph.registered_node_types);
    const types = names.filter((type) => type.startsWith("LuminaNext"));
    let left = 0;
    for (const type of types) {
      const node = window.LiteGraph.createNode(type);
      graph.add(node);
      node.pos = [left, 0];
      left += node.size[0] + 20;
    }
    canvas.ds.scale = 1;
    return types;
  });
  const seen = {};
  for (const type of types) {
    seen[type] = await page.evaluate(fillAndRead, type);
    await page.waitForTimeout(300);
    Object.assign(seen[type], await page.evaluate(readTexts, type));
  }
  await page.evaluate(() => (window.app.canvas.ds.offset = [100, 150]));
  await shoot("new");
  return seen;
}

// Fills the prompt boxes, and takes down what is drawn on the canvas from now on.
function fillAndRead(type) {
  const { canvas, graph } = window.app;
  const node = graph.nodes.find((node) => node.type === type);
  const values = Object.fromEntries((node.widgets ?? []).map((w) => [w.name, w.value]));
  for (const widget of node.widgets ?? []) {
    if (widget.element instanceof HTMLTextAreaElement) widget.value = "filled";
    if (widget.name === "method") widget.value = "dype";
  }
  window.drawn = [];
  const { prototype } = CanvasRenderingContext2D;
  prototype.fillTextBefore ??= prototype.fillText;
  prototype.fillText = function (text, ...rest) {
    window.drawn.push(String(text));
    return this.fillTextBefore(text, ...rest);
  };
  canvas.ds.offset = [300 - node.pos[0], 200];
  canvas.setDirty(true, true);
  return { values };
}

// Its texts, those that are cut, and the heights of its prompt boxes: in Nodes 2.0 of its element.
function readTexts(type) {
  const node = window.app.graph.nodes.find((node) => node.type === type);
  const element = document.querySelector(`[data-node-id="${node.id}"]`);
  const elements = (node.widgets ?? []).map((widget) => widget.element);
  const textBoxes = elements.filter((part) => part instanceof HTMLTextAreaElement);
  if (!element) {
    const cut = window.drawn.filter((text) => text.endsWith("..."));
    return { texts: window.drawn, cut, heights: textBoxes.map((box) => box.offsetHeight) };
  }
  const isCut = (part) =>
    part.scrollWidth > part.clientWidth && getComputedStyle(part).textOverflow === "ellipsis";
  return {
    texts: element.innerText.split("\n"),
    cut: [...element.querySelectorAll("*")].filter(isCut).map((part) => part.innerText),
    heights: [...element.querySelectorAll("textarea")].map((box) => box.offsetHeight),
  };
}

// What the editor's search for nodes finds.
async function search(page, shoot) {
  await page.evaluate(() => {
    return window.app.extensionManager.command.execute("Workspace.SearchBox.Toggle");
  });
  await page.keyboard.type("lumina next");
  await page.waitForTimeout(1500);
  await shoot("search");
  const found = await page.evaluate(() => document.body.innerText);
  await page.keyboard.press("Escape");
  return found;
}

console.log(JSON.stringify(await main(JSON.parse(process.argv[2]))));
