// What an artist does in the browser, on a running ComfyUI, as JSON on the last line of the output:
//     PLAYWRIGHT_CORE=.../node_modules/playwright-core node front_end.mjs URL FOLDER classic|nodes-2
// Every node is added, every template opened from the template browser, the demos run, and the texts on their nodes read:
// when the job is over, in another tab and back, after a job from the cache, and after a reload. Pictures go to FOLDER.
import { existsSync } from 'node:fs';

const { chromium } = await import(`${process.env.PLAYWRIGHT_CORE}/index.mjs`);
const [url, folder, mode] = process.argv.slice(2);
const BINDING = ['ToMeBindPrompt', 'ToMeAttentionMaps', 'ToMeShowMaps'];
const NODES = ['ToMeSpeed', 'ToMeSpeedAdvanced', ...BINDING, 'ToMeCompare', 'ToMeDemoModel', 'ToMeSavePreset'];
const TEMPLATES = ['sd15-txt2img', 'sdxl-txt2img', 'hires-pass', 'binding-sdxl', 'binding-demo', 'demo-ab'];
const PATIENCE = 900_000; // ms, for a run on a busy machine

const executablePath = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/google-chrome'].find(existsSync);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
const errors = [];

class Tab {
  // Open the front end as a new user, in a browser window of its own.
  static async open() {
    const page = await (await browser.newContext({ viewport: { width: 1900, height: 1040 } })).newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on('console', (message) => {
      const unread = message.text().startsWith('Unhandled message');
      if (message.type() === 'error' || unread) errors.push(`${message.text()} ${message.location().url}`);
    });
    page.on('pageerror', (error) => errors.push(`${error.message} ${error.stack}`));
    await page.goto(url);
    const tab = new Tab(page);
    await tab.ready();
    await page.evaluate((on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on), mode === 'nodes-2');
    await tab.settle(1000);
    return tab;
  }

  constructor(page) {
    this.page = page;
  }

  settle = (ms) => this.page.waitForTimeout(ms);
  command = (name) => this.page.evaluate((id) => app.extensionManager.command.execute(id), name);
  picture = (name) => this.page.screenshot({ path: `${folder}/${name}.png` });

  async ready() {
    await this.page.waitForFunction(() => window.app?.graph && window.app.extensionManager);
    await this.settle(6000);
    await this.page.keyboard.press('Escape'); // the dialog that a new user is met with
    await this.page.evaluate(() => {
      window.previews = new Set();
      app.api.addEventListener('b_preview_with_metadata', (event) => previews.add(event.detail.displayNodeId));
      for (const kind of ['execution_success', 'execution_error'])
        app.api.addEventListener(kind, (event) => (window.over = [kind, JSON.stringify(event.detail).slice(0, 500)]));
    });
  }

  // Add one node alone, look at it, and give its title, widgets and slots.
  async add(id) {
    const found = await this.page.evaluate((type) => {
      // not clear(), after which ids begin anew, and a widget takes the value of an earlier node's of its name and id
      for (const old of [...app.graph._nodes]) app.graph.remove(old);
      const node = LiteGraph.createNode(type);
      app.graph.add(node);
      app.canvas.ds.scale = 1.5;
      app.canvas.ds.offset = [60, 80];
      node.pos = [0, 0];
      const widgets = (node.widgets ?? []).map((widget) => widget.name);
      const outputs = node.outputs.map((slot) => slot.label ?? slot.name);
      return { title: node.title, widgets, size: [...node.size], outputs };
    }, id);
    await this.settle(1500);
    const [width, height] = found.size;
    const place = await this.page.evaluate(() => app.canvas.canvas.getBoundingClientRect().toJSON());
    const clip = { x: place.x + 80, y: place.y + 50, width: width * 1.5 + 30, height: height * 1.5 + 90 };
    await this.page.screenshot({ path: `${folder}/${id}.png`, clip });
    return found;
  }

  // Open a template from the template browser and give its nodes; its tab stays, with the graph in it.
  async openTemplate(name) {
    await this.command('Comfy.BrowseTemplates');
    const dialog = this.page.getByRole('dialog');
    await dialog.getByText('tome-suite', { exact: true }).first().click();
    await this.settle(1500);
    if (name === TEMPLATES[0]) await this.picture('templates');
    await dialog.getByText(name, { exact: true }).first().click();
    await this.page.waitForFunction(
      (wanted) => app.extensionManager.workflow.activeWorkflow?.path?.includes(wanted) && app.graph._nodes.length,
      name
    );
    await this.settle(2500);
    const types = await this.page.evaluate(() => app.graph._nodes.map((node) => node.type));
    await this.page.keyboard.press('Escape'); // a dialog about a checkpoint that is not there
    await this.command('Comfy.Canvas.FitView');
    await this.settle(1500);
    await this.picture(name);
    return types;
  }

  // Go to the open workflow of a name.
  async show(name) {
    await this.page.getByText(name, { exact: true }).first().click();
    await this.settle(4000);
  }

  // Run the graph that is open, with `meanwhile` once it is queued.
  async run({ seed = null, meanwhile = null } = {}) {
    await this.page.evaluate((value) => {
      Object.assign(window, { over: null });
      previews.clear();
      const samplers = app.graph._nodes.filter((node) => node.type === 'KSampler');
      if (value !== null)
        for (const node of samplers) node.widgets.find((widget) => widget.name === 'seed').value = value;
      return app.queuePrompt(0, 1);
    }, seed);
    await meanwhile?.();
    await this.page.waitForFunction(() => window.over);
    await this.settle(3000);
    return this.page.evaluate(() => ({ over: window.over, previews: previews.size }));
  }

  // Give the text that can be seen on each of our nodes, by the node's id and type.
  texts() {
    return this.page.evaluate(() => {
      const found = {};
      for (const node of app.graph._nodes.filter((each) => each.type.startsWith('ToMe'))) {
        const seen = (node.widgets ?? []).flatMap((widget) => {
          if (widget.name === '$$node-text-preview') return [`progress text: ${widget.value}`];
          const box = widget.name === 'tome_suite_text' && widget.element?.getBoundingClientRect();
          return box && box.width > 0 && box.height > 0 ? [widget.element.innerText] : [];
        });
        if (seen.length) found[`${node.id} ${node.type}`] = seen;
      }
      return found;
    });
  }

  // Give what ComfyUI would save of the open workflow and send of it, but for places and sizes.
  async saved() {
    return this.page.evaluate(async () => {
      const { workflow, output } = await app.graphToPrompt();
      const nodes = workflow.nodes.map(({ id, properties, widgets_values }) => ({ id, properties, widgets_values }));
      return JSON.stringify([nodes, workflow.extra?.tome_suite, output]);
    });
  }
}

function hasNodes2(version) {
  const [major, minor] = version.split('.').map(Number);
  return major > 1 || minor >= 40;
}

async function runDemo(tab) {
  const other = await Tab.open();
  await other.openTemplate('demo-ab'); // the same nodes in another browser, which did not ask for the job
  const before = await tab.saved();
  const ran = await tab.run();
  await tab.picture('demo-ab-finished');
  const answer = { ...ran, texts: { finished: await tab.texts(), elsewhere: await other.texts() } };
  answer.unchanged = before === (await tab.saved());
  await other.page.context().close();
  await tab.show('binding-demo');
  answer.texts.otherTab = await tab.texts();
  await tab.show('demo-ab');
  answer.texts.tabAgain = await tab.texts();
  answer.cached = await tab.run();
  answer.texts.cached = await tab.texts();
  answer.away = await tab.run({ seed: 77, meanwhile: () => tab.show('binding-demo') });
  answer.texts.otherTabAfterRun = await tab.texts();
  await tab.show('demo-ab');
  answer.texts.away = await tab.texts();
  await tab.page.reload();
  await tab.ready();
  await tab.command('Comfy.Canvas.FitView');
  answer.texts.reloaded = await tab.texts();
  await tab.picture('demo-ab-reloaded');
  return answer;
}

const tab = await Tab.open();
const version = await tab.page.evaluate(() => window.__COMFYUI_FRONTEND_VERSION__);
const answer = { version, added: {}, templates: {}, ran: {}, errors };
if (mode === 'nodes-2' && !hasNodes2(version)) {
  console.log(JSON.stringify({ version, skipped: `front end ${version} has only an unfinished draft of Nodes 2.0` }));
  process.exit();
}
for (const id of NODES) answer.added[id] = await tab.add(id);
for (const name of TEMPLATES) {
  answer.templates[name] = await tab.openTemplate(name);
  if (name === 'binding-demo') {
    answer.ran[name] = await tab.run();
    await tab.picture('binding-demo-finished');
    answer.ran[name].texts = { finished: await tab.texts() };
  }
}
answer.ran['demo-ab'] = await runDemo(tab);
console.log(JSON.stringify(answer));
await browser.close();
