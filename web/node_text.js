// Draws what a node of this pack says, and keeps it there when the job is over.
//
// A text comes with the node's output, or later, in a message that replaces it. It is in no widget that ComfyUI saves or
// sends: a text that changes with every run would mark the workflow as changed, and run it again in "Run (On Change)".
// It is kept in the browser tab's own storage, by the id of the workflow and of the node, for tabs and reloads.
import { app } from '../../scripts/app.js';
import { api } from '../../scripts/api.js';

const MARK = 'tome_suite'; // in the output of a node of ours
const MESSAGE = 'tome_suite.text';
const STORAGE = 'tome_suite.texts';
const WIDGET = 'tome_suite_text';
const CATEGORY = 'ToMe';
const MAX_WORKFLOWS = 50;
const MAX_JOBS = 200;
const MAX_HEIGHT = 320; // pixels; a longer text scrolls
const MARGIN = 10; // of a widget in a classic node, on each side
const STYLE = `box-sizing: border-box; max-height: ${MAX_HEIGHT}px; overflow-y: auto; padding: 6px 8px;
  border-radius: 6px; background: var(--comfy-input-bg); color: var(--input-text); font: 12px/1.4 sans-serif;
  white-space: pre-wrap; overflow-wrap: anywhere; user-select: text; cursor: text;`;

const ours = new Set(); // types of nodes
const workflowOfJob = new Map();
const texts = stored(); // workflow id -> node id -> {output, later}
let job = null; // that runs now

function stored() {
  try {
    return new Map(Object.entries(JSON.parse(sessionStorage.getItem(STORAGE)) ?? {}));
  } catch {
    return new Map();
  }
}

function dropOldest(map, max) {
  while (map.size > max) map.delete(map.keys().next().value);
}

function store() {
  dropOldest(texts, MAX_WORKFLOWS);
  try {
    sessionStorage.setItem(STORAGE, JSON.stringify(Object.fromEntries(texts)));
  } catch {
    // full or forbidden: the texts last until the page is reloaded
  }
}

const rootGraph = () => app.rootGraph ?? app.graph;

// The node with an id such as "7", or "5:7" inside of a subgraph, where it is one of ours.
function findNode(id) {
  let graph = rootGraph();
  let node = null;
  for (const step of String(id).split(':')) {
    node = graph?.getNodeById?.(step) ?? null;
    graph = node?.subgraph;
  }
  return ours.has(node?.type) ? node : null;
}

// Keep what a node says, and draw it where its workflow is the open one.
function keep(id, prompt, change) {
  const open = rootGraph()?.id;
  const workflow = workflowOfJob.get(prompt) ?? open;
  if (workflow === open && !findNode(id)) return;
  const nodes = texts.get(workflow) ?? {};
  nodes[id] = change(nodes[id]);
  texts.delete(workflow);
  texts.set(workflow, nodes); // as the newest
  store();
  if (workflow === open) draw(id, nodes[id]);
}

function draw(id, { output, later }) {
  const node = findNode(id);
  if (!node?.addDOMWidget) return;
  const widget = node.widgets?.find((known) => known.name === WIDGET) ?? addWidget(node);
  widget.value = later ?? output;
  if (!globalThis.LiteGraph?.vueNodesMode) fit(node);
  node.setDirtyCanvas?.(true, true);
}

function addWidget(node) {
  const element = document.createElement('div');
  element.className = 'tome-suite-text';
  element.style.cssText = STYLE;
  element.addEventListener('wheel', (event) => {
    if (element.scrollHeight > element.clientHeight) event.stopPropagation(); // scroll, do not zoom
  });
  const height = heightOf(element, node);
  const widget = node.addDOMWidget(WIDGET, 'tome_text', element, {
    serialize: false, // not in the prompt
    hideInPanel: true,
    margin: MARGIN,
    getValue: () => element.textContent,
    setValue: (text) => (element.textContent = text),
    getMinHeight: height,
    getMaxHeight: height
  });
  widget.serialize = false; // not in the workflow
  return widget;
}

// A function that gives how high the widget is for its text at the node's present width.
function heightOf(element, node) {
  let known = [];
  return () => {
    const [text, width] = [element.textContent, Math.round(node.size[0]) - 2 * MARGIN];
    if (known[0] !== text || known[1] !== width) known = [text, width, measure(text, width) + 2 * MARGIN];
    return known[2];
  };
}

function measure(text, width) {
  const copy = document.createElement('div');
  copy.style.cssText = `${STYLE} position: absolute; visibility: hidden; width: ${Math.max(width, 40)}px;`;
  copy.textContent = text;
  document.body.append(copy);
  const height = copy.offsetHeight;
  copy.remove();
  return height;
}

// Make a classic node high enough for all that is on it.
function fit(node) {
  const needed = node.computeSize?.()[1];
  if (needed > node.size[1]) node.setSize([node.size[0], needed]);
}

// Say to the server that this browser keeps texts, so that it sends none as progress text.
let announced = null; // under which name
function announce() {
  if (!api.clientId || api.clientId === announced) return;
  announced = api.clientId;
  const request = { method: 'POST', body: JSON.stringify({ client_id: announced }) };
  api.fetchApi('/tome_suite/browser', request).catch(() => (announced = null));
}

function listen() {
  api.addEventListener('status', announce);
  api.addEventListener('reconnected', () => {
    announced = null;
    announce();
  });
  api.addEventListener('execution_start', ({ detail }) => (job = detail?.prompt_id));
  api.addEventListener('executed', ({ detail }) => {
    if (!detail?.output?.[MARK]) return;
    const output = detail.output.text.join('\n');
    // a node that did not run again sends what it said before: what it learned after that still holds
    const change = (old) => (old?.output === output ? old : { output });
    keep(detail.display_node || detail.node, detail.prompt_id, change);
  });
  api.addEventListener(MESSAGE, ({ detail }) => {
    keep(detail.node, job, (old) => ({ ...old, later: detail.text }));
  });
  const queuePrompt = api.queuePrompt;
  api.queuePrompt = async function (number, data, ...rest) {
    const answer = await queuePrompt.call(this, number, data, ...rest);
    if (answer?.prompt_id && data?.workflow?.id) workflowOfJob.set(answer.prompt_id, data.workflow.id);
    dropOldest(workflowOfJob, MAX_JOBS);
    return answer;
  };
}

app.registerExtension({
  name: 'tome-suite.node-text',
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.category === CATEGORY) ours.add(nodeData.name);
  },
  setup() {
    listen();
    announce();
  },
  afterConfigureGraph() {
    for (const [id, text] of Object.entries(texts.get(rootGraph()?.id) ?? {})) draw(id, text);
  }
});
