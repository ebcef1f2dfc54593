// Looks at the pictures that the pack draws on its nodes in ComfyUI's editor, in both renderers and
// both themes. What was seen is printed as one JSON object for tests/browser/test_widgets.py.
//
//     node widgets.mjs SETTINGS
//
// SETTINGS is a JSON object: url of the server, chromium, folder (for screenshots) and graph (a PNG
// that holds the graph) as paths, and pack.

import { readFile } from "node:fs/promises";
import path from "node:path";
import { chromium } from "playwright-core";
import { FLAGS, PATIENCE_MS, watch } from "./page.mjs";

const LOOKS = [
  { name: "classic-dark", isVue: false, theme: "dark", zoom: 1 },
  { name: "classic-light", isVue: false, theme: "light", zoom: 0.7 },
  { name: "vue-light", isVue: true, theme: "light", zoom: 1 },
  { name: "vue-dark", isVue: true, theme: "dark", zoom: 0.7 },
];
const USUAL = LOOKS[0];

async function main(settings) {
  const browser = await chromium.launch({ executablePath: settings.chromium, args: FLAGS });
  try {
    const page = await newPage(browser);
    const watched = await watch(page, settings.url);
    const messages = messagesOf(page);
    await openEditor(page, settings.url);
    const looks = {};
    for (const look of LOOKS) {
      await dress(page, look);
      await dragIn(page, settings.graph);
      await untilDrawn(page);
      await show(page, look.zoom);
      const screenshot = path.join(settings.folder, `${look.name}.png`);
      await page.screenshot({ path: screenshot });
      looks[look.name] = { screenshot, pictures: await pictures(page) };
      looks[look.name].saved = await saved(page);
      looks[look.name].changed = await changed(page, look);
      looks[look.name].copied = await copied(page);
      looks[look.name].inSubgraph = await inSubgraph(page);
    }
    await dress(page, USUAL);
    const without = await savedWithout(browser, settings);
    return { ...watched, messages, looks, without };
  } finally {
    await browser.close();
  }
}

async function newPage(browser) {
  const page = await browser.newPage({ viewport: { width: 1920, height: 1080 } });
  page.setDefaultTimeout(PATIENCE_MS);
  await page.addInitScript(() => {
    window.pictureOf = (node) => node.widgets?.find(({ name }) => name === "preview")?.element;
  });
  return page;
}

function messagesOf(page) {
  const messages = [];
  page.on("console", (message) => {
    messages.push({ kind: message.type(), text: message.text(), from: message.location().url });
  });
  return messages;
}

async function openEditor(page, url) {
  // The editor would greet with its templates.
  await page.request.post(`${url}/api/settings`, { data: { "Comfy.TutorialCompleted": true } });
  await page.goto(url);
  await page.waitForFunction(
    () => window.app?.graph && window.LiteGraph?.registered_node_types.LuminaNextSampler,
  );
  await page.waitForTimeout(1500); // until its first graph is there
}

async function dress(page, { isVue, theme }) {
  await page.evaluate(
    async ({ isVue, theme }) => {
      const settings = window.app.extensionManager.setting;
      await settings.set("Comfy.VueNodes.Enabled", isVue);
      await settings.set("Comfy.ColorPalette", theme);
    },
    { isVue, theme },
  );
}

// Hands the picture over as if it was dropped on the canvas.
async function dragIn(page, file) {
  const bytes = (await readFile(file)).toString("base64");
  await page.evaluate(async (bytes) => {
    const content = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
    await window.app.handleFile(new File([content], "graph.png", { type: "image/png" }));
  }, bytes);
}

async function untilDrawn(page) {
  await page.waitForFunction(() => {
    const open = window.app.graph.nodes.filter((node) => window.pictureOf(node) && !node.collapsed);
    return open.length && open.every((node) => window.pictureOf(node).lastChild.textContent);
  });
}

async function show(page, zoom) {
  await page.evaluate((zoom) => {
    const { canvas } = window.app;
    canvas.ds.scale = zoom;
    canvas.ds.offset = [60 / zoom, 60 / zoom];
    canvas.setDirty(true, true);
  }, zoom);
  await page.waitForTimeout(1000); // until all is drawn
}

// By title: the caption, whether it is on the screen, and where its lines are, in pixels.
async function pictures(page) {
  return page.evaluate(() => {
    const of = (node) => {
      const element = window.pictureOf(node);
      const box = element.querySelector("svg")?.getBoundingClientRect();
      return {
        caption: element.lastChild.textContent,
        isVisible: element.checkVisibility() && element.isConnected,
        box: box ? [box.left, box.top, box.right, box.bottom] : null,
      };
    };
    const drawn = window.app.canvas.graph.nodes.filter((node) => window.pictureOf(node));
    return Object.fromEntries(drawn.map((node) => [node.title, of(node)]));
  });
}

// The graph as it is saved and as it is sent, without the sizes of nodes.
async function saved(page) {
  return page.evaluate(async () => {
    const { nodes } = window.app.graph.serialize();
    const { output } = await window.app.graphToPrompt();
    return { nodes: nodes.map(({ size, ...rest }) => rest), output };
  });
}

// The user presses + on the steps of the node "plain", then Ctrl+Z: the captions after each.
async function changed(page, look) {
  await (look.isVue ? pressPlusInVue : pressPlusInClassic)(page, look.zoom);
  const after = await captionOnceChanged(page, "sigmoid, 10 steps");
  await page.mouse.click(1800, 600); // beside the nodes, so that the editor has the keyboard
  await page.keyboard.press("Control+z");
  return [after, await captionOnceChanged(page, after)];
}

async function pressPlusInVue(page) {
  const widget = page
    .locator("[data-node-id]", { hasText: "plain" })
    .locator("[data-testid=node-widget]", { hasText: "steps" })
    .first();
  await widget.locator("button").last().click();
}

async function pressPlusInClassic(page) {
  const [x, y] = await page.evaluate(() => {
    const { canvas, graph } = window.app;
    const node = graph.nodes.find((node) => node.title === "plain");
    const widget = node.widgets.find((widget) => widget.name === "steps");
    const place = [node.pos[0] + node.size[0] - 26, node.pos[1] + widget.y + 10];
    const { left, top } = canvas.canvas.getBoundingClientRect();
    const [right, down] = canvas.ds.convertOffsetToCanvas(place);
    return [left + right, top + down];
  });
  await page.mouse.click(x, y);
}

async function captionOnceChanged(page, before) {
  const caption = () => {
    const node = window.app.graph.nodes.find((node) => node.title === "plain");
    return node && window.pictureOf(node).lastChild.textContent;
  };
  try {
    const isOther = `(before) => { const now = (${caption})(); return now && now !== before; }`;
    await page.waitForFunction(`(${isOther})(${JSON.stringify(before)})`, null, { timeout: 5000 });
  } catch {
    // Told by the caption that is returned.
  }
  return page.evaluate(caption);
}

// The caption of a copy of "custom".
async function copied(page) {
  await page.evaluate(() => {
    const { canvas, graph } = window.app;
    canvas.copyToClipboard([graph.nodes.find((node) => node.title === "custom")]);
    canvas.pasteFromClipboard();
  });
  await page.waitForTimeout(700);
  return page.evaluate(() => {
    const copies = window.app.graph.nodes.filter((node) => node.title === "custom");
    return copies.map((node) => window.pictureOf(node).lastChild.textContent);
  });
}

// What is drawn inside a subgraph made of "custom" and "plain", and on the node that stands for it.
async function inSubgraph(page) {
  await page.evaluate(() => {
    const { canvas, graph } = window.app;
    const inside = ["custom", "plain"].map((title) => graph.nodes.find((n) => n.title === title));
    const { node } = graph.convertToSubgraph(new Set(inside));
    canvas.openSubgraph(node.subgraph, node);
  });
  await page.waitForTimeout(1500);
  return pictures(page);
}

// The same graph as it is saved where none of our pictures is drawn.
async function savedWithout(browser, settings) {
  const page = await newPage(browser);
  for (const name of ["sigmas", "wavelengths"]) {
    const empty = { contentType: "text/javascript", body: "" };
    await page.route(`**/extensions/${settings.pack}/${name}.js`, (route) => route.fulfill(empty));
  }
  await openEditor(page, settings.url);
  await dragIn(page, settings.graph);
  await page.waitForFunction(() => window.app.graph.nodes.length > 1);
  await page.waitForTimeout(1000);
  return saved(page);
}

console.log(JSON.stringify(await main(JSON.parse(process.argv[2]))));
