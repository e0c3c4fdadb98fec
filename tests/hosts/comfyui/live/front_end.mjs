// What an artist does in the browser, on a running ComfyUI, told as JSON on the last line of the output:
//     PLAYWRIGHT_CORE=.../node_modules/playwright-core node front_end.mjs URL FOLDER
// Every node is added, every template opened from the template browser, the demo run. Pictures of it go to FOLDER.
import { existsSync } from 'node:fs';

const { chromium } = await import(`${process.env.PLAYWRIGHT_CORE}/index.mjs`);
const [url, folder] = process.argv.slice(2);
const BINDING = ['ToMeBindPrompt', 'ToMeAttentionMaps', 'ToMeShowMaps'];
const NODES = ['ToMeSpeed', 'ToMeSpeedAdvanced', ...BINDING, 'ToMeCompare', 'ToMeDemoModel'];
const TEMPLATES = ['sd15-txt2img', 'sdxl-txt2img', 'hires-pass', 'binding-sdxl', 'binding-demo', 'demo-ab'];
const RUN = ['binding-demo', 'demo-ab'];
const PATIENCE = 900_000; // ms, for a run on a busy machine

const executablePath = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/google-chrome'].find(existsSync);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
const page = await browser.newPage({ viewport: { width: 1900, height: 1040 } });
page.setDefaultTimeout(PATIENCE);
const errors = [];
page.on('console', (message) => {
  if (message.type() === 'error') errors.push(`${message.text()} ${message.location().url}`);
});
page.on('pageerror', (error) => errors.push(`${error.message} ${error.stack}`));

const command = (name) => page.evaluate((id) => app.extensionManager.command.execute(id), name);
const settle = (ms) => page.waitForTimeout(ms);

async function open() {
  await page.goto(url);
  await page.waitForFunction(() => window.app?.graph && window.app.extensionManager);
  await settle(6000);
  await page.keyboard.press('Escape'); // the dialog that a new user is met with
}

// Add one node alone, look at it, and tell its title, widgets and slots.
async function add(id) {
  const found = await page.evaluate((type) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    app.canvas.ds.scale = 1.5;
    app.canvas.ds.offset = [60, 80];
    node.pos = [0, 0];
    const widgets = (node.widgets ?? []).map((widget) => widget.name);
    return { title: node.title, widgets, size: [...node.size], outputs: node.outputs.map((slot) => slot.label ?? slot.name) };
  }, id);
  await settle(1500);
  const [width, height] = found.size;
  const place = await page.evaluate(() => app.canvas.canvas.getBoundingClientRect().toJSON());
  const clip = { x: place.x + 80, y: place.y + 50, width: width * 1.5 + 30, height: height * 1.5 + 90 };
  await page.screenshot({ path: `${folder}/${id}.png`, clip });
  return found;
}

// Open a template from the template browser and tell its nodes; its tab stays, with the graph in it.
async function openTemplate(name) {
  await command('Comfy.BrowseTemplates');
  const dialog = page.getByRole('dialog');
  await dialog.getByText('tome-suite', { exact: true }).first().click();
  await settle(1500);
  if (name === TEMPLATES[0]) await page.screenshot({ path: `${folder}/templates.png` });
  await page.evaluate(() => app.graph.clear());
  await dialog.getByText(name, { exact: true }).first().click();
  await page.waitForFunction(() => app.graph._nodes.some((node) => node.type.startsWith('ToMe')));
  await settle(2500);
  const types = await page.evaluate(() => app.graph._nodes.map((node) => node.type));
  await page.keyboard.press('Escape'); // a dialog about a checkpoint that is not there
  await command('Comfy.Canvas.FitView');
  await settle(1500);
  await page.screenshot({ path: `${folder}/${name}.png` });
  return types;
}

// Keep from now on how runs end, what nodes say, and which nodes show pictures while a sampler draws.
async function listen() {
  await page.evaluate(() => {
    app.api.addEventListener('progress_text', (event) => window.told.push(event.detail.text));
    app.api.addEventListener('b_preview_with_metadata', (event) => window.previews.add(event.detail.displayNodeId));
    for (const kind of ['execution_success', 'execution_error'])
      app.api.addEventListener(kind, (event) => (window.over = [kind, JSON.stringify(event.detail).slice(0, 500)]));
  });
}

// Run the graph that is open.
async function run(name) {
  await page.evaluate(() => {
    Object.assign(window, { told: [], previews: new Set(), over: null });
    return app.queuePrompt(0, 1);
  });
  await page.waitForFunction(() => window.over);
  await settle(4000);
  await page.screenshot({ path: `${folder}/${name}-finished.png` });
  return page.evaluate(() => ({ over: window.over, told: window.told, previews: window.previews.size }));
}

const answer = { added: {}, templates: {}, ran: {}, errors };
await open();
await listen();
for (const id of NODES) answer.added[id] = await add(id);
for (const name of TEMPLATES) {
  answer.templates[name] = await openTemplate(name);
  if (RUN.includes(name)) answer.ran[name] = await run(name);
}
console.log(JSON.stringify(answer));
await browser.close();
