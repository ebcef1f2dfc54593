// What the scripts of these tests do with a page of ComfyUI's editor: watch it, look at it, run it.

export const PATIENCE_MS = 120_000;
export const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-dev-shm-usage",
];

// What goes wrong in the page, and what it asks of other machines: filled while the page lives.
export async function watch(page, url) {
  const watched = { exceptions: [], elsewhere: [] };
  page.on("pageerror", (error) => watched.exceptions.push(String(error)));
  await page.route("**/*", (route) => {
    const address = new URL(route.request().url());
    const isLocal = address.host === new URL(url).host || !address.protocol.startsWith("http");
    if (isLocal) return route.continue();
    watched.elsewhere.push(address.href);
    return route.abort();
  });
  return watched;
}

// Opens one of a pack's templates, as a click in the template browser does.
export async function openTemplate(page, pack, name) {
  await page.evaluate(
    async ([pack, name]) => {
      const path = `/api/workflow_templates/${pack}/${encodeURIComponent(name)}.json`;
      const response = await fetch(path);
      await window.app.loadGraphData(await response.json(), true, true, name);
    },
    [pack, name],
  );
}

// The nodes on the canvas, and every complaint of the editor that is on the screen.
export async function look(page, settle = 1500) {
  await page.waitForTimeout(settle); // complaints come a moment after the graph
  const nodes = await page.evaluate(() =>
    window.app.graph.nodes.map((node) => ({
      id: node.id,
      type: node.type,
      isKnown: node.type in window.LiteGraph.registered_node_types,
      isFaulty: Boolean(node.has_errors),
      widgets: Object.fromEntries(
        (node.widgets ?? []).filter((w) => w.serialize !== false).map((w) => [w.name, w.value]),
      ),
    })),
  );
  const complaints = page.locator(
    "[data-testid=error-overlay], [role=dialog], [role=alertdialog], .p-toast-message",
  );
  return { nodes, complaints: await complaints.allInnerTexts() };
}

// Queues the graph as the Run button does and waits until its picture is on the canvas.
export async function runWorkflow(page) {
  const accepted = page.waitForResponse(
    (response) => response.url().endsWith("/prompt") && response.request().method() === "POST",
  );
  await page.evaluate(() => void window.app.queuePrompt(0, 1));
  const response = await accepted;
  const answer = await response.json();
  if (!response.ok()) return { refusal: JSON.stringify(answer) };
  await page.waitForFunction(() =>
    window.app.graph.nodes.some((node) => node.imgs?.[0]?.naturalWidth > 0),
  );
  const shown = await page.evaluate(() => {
    const { imgs } = window.app.graph.nodes.find((node) => node.imgs?.length);
    return imgs.map((image) => [image.naturalWidth, image.naturalHeight]);
  });
  return { ...(await look(page)), id: answer.prompt_id, shown };
}
