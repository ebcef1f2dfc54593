// Opens every template of the pack in ComfyUI's editor, in both renderers, both themes and two
// languages, finds them in the template browser, and runs those that can run. What was seen is
// printed as one JSON object for tests/browser/test_templates.py.
//
//     node templates.mjs SETTINGS
//
// SETTINGS is a JSON object: url of the server, chromium and folder (for screenshots) as paths, pack,
// names of the templates, runnable, those of them that can run, and blueprint, the name of a subgraph.

import path from "node:path";
import { chromium } from "playwright-core";
import { FLAGS, look, openTemplate, PATIENCE_MS, runWorkflow, watch } from "./page.mjs";

// Every pair of renderer, theme and language is in one of them.
const VIEWS = [
  { isNodes2: false, theme: "dark", language: "en" },
  { isNodes2: true, theme: "light", language: "en" },
  { isNodes2: false, theme: "light", language: "zh" },
  { isNodes2: true, theme: "dark", language: "zh" },
];

async function main(settings) {
  const browser = await chromium.launch({ executablePath: settings.chromium, args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: { width: 1920, height: 1080 } });
    page.setDefaultTimeout(PATIENCE_MS);
    const watched = await watch(page, settings.url);
    const errors = listen(page);
    const shoot = (name) => page.screenshot({ path: path.join(settings.folder, `${name}.png`) });
    await enter(page, settings, VIEWS[0]);
    const ofTheEditor = new Set(errors);
    const opened = {};
    for (const view of VIEWS) {
      const name = `${view.isNodes2 ? "nodes2" : "classic"}-${view.theme}-${view.language}`;
      if (view !== VIEWS[0]) await enter(page, settings, view);
      opened[name] = await openAll(page, settings, (template) => shoot(`${name}-${template}`));
    }
    await enter(page, settings, VIEWS[0]);
    const found = await search(page, settings, shoot);
    const simple = await openSimpleView(page, shoot);
    const ran = {};
    for (const name of settings.runnable) {
      await openTemplate(page, settings.pack, name);
      const { shown, refusal, complaints } = await runWorkflow(page);
      ran[name] = { shown, refusal, complaints };
      await shoot(`ran-${name}`);
    }
    const dropped = await dropPicture(page);
    const added = await addBlueprint(page, settings, shoot);
    const ours = errors.filter((text) => !ofTheEditor.has(text));
    return { ...watched, errors: ours, opened, found, simple, ran, dropped, added };
  } finally {
    await browser.close();
  }
}

// What the page's console complains about, but for what the editor asks for in vain: files that are
// elsewhere, and answers that come after the page was left.
function listen(page) {
  const errors = [];
  page.on("console", (message) => {
    const text = message.text();
    const isOfTheNet =
      /Failed to (load resource|fetch)|Content Security Policy|Fetch API cannot/.test(text);
    if (message.type() === "error" && !isOfTheNet) errors.push(text);
  });
  return errors;
}

async function enter(page, { url }, { isNodes2, theme, language }) {
  if (page.url() === "about:blank") await load(page, url);
  await page.evaluate(
    async ([isNodes2, theme, language]) => {
      const { setting } = window.app.extensionManager;
      await setting.set("Comfy.VueNodes.Enabled", isNodes2);
      await setting.set("Comfy.ColorPalette", theme);
      await setting.set("Comfy.Locale", language);
    },
    [isNodes2, theme, language],
  );
  await load(page, url);
}

async function load(page, url) {
  await page.goto(url);
  await page.waitForFunction(() => window.app?.graph && window.app.extensionManager);
  await page.waitForTimeout(1500);
  await page.keyboard.press("Escape"); // the templates, which a new user is offered
}

async function openAll(page, settings, shoot) {
  const opened = {};
  for (const name of settings.names) {
    await openTemplate(page, settings.pack, name);
    const { nodes, complaints } = await look(page, 400);
    opened[name] = { nodes, complaints, ...(await page.evaluate(layout)) };
    await shoot(name);
  }
  return opened;
}

// The zoom, and where the nodes are: [left, top, right, bottom] of each, in units of the canvas.
function layout() {
  const { canvas, graph } = window.app;
  const boxes = graph.nodes.map((node) => {
    const element = document.querySelector(`[data-node-id="${node.id}"]`);
    const [width, height] = element
      ? [element.offsetWidth, element.offsetHeight]
      : [node.size[0], node.size[1] + 30];
    const [x, y] = [node.pos[0], node.pos[1] - 30];
    return [x, y, x + width, y + height];
  });
  return { scale: canvas.ds.scale, boxes };
}

// The template browser's list for "lumina", and the first of it, opened by a click.
async function search(page, { names }, shoot) {
  await page.evaluate(() => {
    return window.app.extensionManager.command.execute("Comfy.BrowseTemplates");
  });
  const cards = page.locator("[data-testid^=template-workflow-]");
  await cards.first().waitFor();
  await page.locator("[role=dialog] input[type=text], [role=dialog] input").first().fill("lumina");
  await page.locator(`[data-testid="template-workflow-${names[0]}"]`).waitFor();
  await page.waitForTimeout(1500);
  const listed = await cards.evaluateAll((all) =>
    all.map((card) => card.dataset.testid.replace("template-workflow-", "")),
  );
  await shoot("search");
  await page.locator(`[data-testid="template-workflow-${names[0]}"]`).click();
  await page.waitForFunction(() => window.app.graph.nodes.length > 5);
  await page.waitForTimeout(1000);
  const types = await page.evaluate(() => window.app.graph.nodes.map((node) => node.type));
  return { listed, types };
}

// The view that hides the graph, of the template that is open: what it shows.
async function openSimpleView(page, shoot) {
  const toggle = () =>
    page.evaluate(() => window.app.extensionManager.command.execute("Comfy.ToggleLinear"));
  await toggle();
  await page.getByText("Number of runs").waitFor();
  await shoot("simple");
  const text = await page.locator("body").innerText();
  await toggle();
  await page.waitForTimeout(500);
  return text;
}

// The picture that was saved last, dragged from the computer onto an empty canvas.
async function dropPicture(page) {
  return page.evaluate(async () => {
    const { app } = window;
    const saved = () => app.graph.serialize().nodes.map(({ id, type, pos }) => [id, type, ...pos]);
    const before = saved();
    const source = app.graph.nodes.find((node) => node.imgs?.length).imgs[0].src;
    const address = new URL(source);
    address.searchParams.delete("preview");
    const picture = await (await fetch(address)).blob();
    app.graph.clear();
    const data = new DataTransfer();
    data.items.add(new File([picture], "picture.png", { type: "image/png" }));
    const options = { dataTransfer: data, bubbles: true, cancelable: true };
    app.canvas.canvas.dispatchEvent(new DragEvent("drop", options));
    for (let tries = 0; tries < 50 && !app.graph.nodes.length; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return { before, after: saved() };
  });
}

// The graph that is offered as one node, found in the search for nodes, and run.
async function addBlueprint(page, { blueprint }, shoot) {
  await page.evaluate(() => {
    window.app.graph.clear();
    return window.app.extensionManager.command.execute("Workspace.SearchBox.Toggle");
  });
  await page.waitForTimeout(1000);
  await page.keyboard.type(blueprint);
  await page.waitForTimeout(2000);
  await page.keyboard.press("Enter");
  await page.waitForTimeout(1000);
  await page.mouse.click(900, 500); // where it is put down
  await page.waitForFunction(() => window.app.graph.nodes.length);
  const shown = await page.evaluate(() => {
    const { graph } = window.app;
    const [node] = graph.nodes;
    const save = window.LiteGraph.createNode("SaveImage");
    save.pos = [node.pos[0] + 600, node.pos[1]];
    graph.add(save);
    node.connect(0, save, 0);
    return node.widgets.map((widget) => widget.label ?? widget.name);
  });
  const { refusal, complaints, shown: pictures } = await runWorkflow(page);
  await shoot("blueprint");
  return { shown, refusal, complaints, pictures };
}

console.log(JSON.stringify(await main(JSON.parse(process.argv[2]))));
