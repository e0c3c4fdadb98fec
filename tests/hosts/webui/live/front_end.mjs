// What a browser shows of the accordion and the tab, and what pasting and a reload of the page do to them. One JSON line.
//   node front_end.mjs URL [SCREENSHOTS]   with PLAYWRIGHT_CORE=.../node_modules/playwright-core
import { existsSync } from 'node:fs';

const { chromium } = await import(`${process.env.PLAYWRIGHT_CORE}/index.mjs`);
const [url, folder] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/google-chrome'].find(existsSync);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
const page = await browser.newPage({ viewport: { width: 1300, height: 1000 } });
page.setDefaultTimeout(60_000);
const errors = [];
page.on('pageerror', (error) => errors.push(error.message));
page.on('console', (message) => message.type() === 'error' && errors.push(`${message.text()} ${message.location().url}`));
const isHere = (to) => ['127.0.0.1', 'localhost'].includes(to.hostname) || !to.protocol.startsWith('http');
await page.route((to) => !isHere(to), (route) => route.abort());

const id = (name) => `#script_txt2img_tome_${name}`;
const accordion = page.locator(id('enabled')).first();
const shot = async (name, target = page) => folder && (await target.screenshot({ path: `${folder}/${name}.png` }));

async function open() {
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  await page.locator('#txt2img_generate').waitFor({ state: 'visible' });
  await page.waitForTimeout(4000);
}

async function tall(height) {
  await page.setViewportSize({ width: 1300, height });
  await page.waitForTimeout(300);
}


const unfold = (name) => page.locator(`${id(name)} .label-wrap`).first().click();

async function tick() {
  await accordion.locator('.label-wrap').first().click({ position: { x: 200, y: 10 } }); // opens it, and so ticks it
  await page.waitForTimeout(800);
  const box = page.locator(`${id('enabled')}-visible-checkbox`);
  if (!(await box.isChecked())) await box.click();
}

async function values() {
  return await page.evaluate(() => {
    const found = {};
    for (const element of document.querySelectorAll('[id^=script_txt2img_tome_]')) {
      const name = element.id.replace('script_txt2img_tome_', '');
      const input = element.matches('input') ? element : element.querySelector('input, textarea');
      if (input && !found[name]) found[name] = input.type === 'checkbox' ? input.checked : input.value;
    }
    return found;
  });
}

async function generate(prompt) {
  await page.locator('#txt2img_prompt textarea').first().fill(prompt);
  for (const side of ['width', 'height']) {
    const box = page.locator(`#txt2img_${side} input[type=number]`).first();
    await box.fill('256');
    await box.press('Tab');
  }
  const info = page.locator('#html_log_txt2img, #html_info_txt2img');
  const before = await info.allInnerTexts();
  await page.locator('#txt2img_generate').click();
  await page.waitForFunction((old) => {
    const texts = [...document.querySelectorAll('#html_log_txt2img, #html_info_txt2img')].map((e) => e.innerText);
    return texts.join().includes('Time taken') && texts.join() !== old.join();
  }, before, { timeout: 120_000 });
  await page.waitForTimeout(1000);
  return (await page.locator('#txt2img_results').innerText()).trim();
}

const found = { errors };
try {
  await open();
  found.untouched = await values();
  await tick();
  await page.locator('#txt2img_prompt textarea').first().fill('a red book and a yellow vase on a wooden table');
  await page.locator(`${id('binding')} input`).first().click();
  await page.waitForTimeout(2500);
  found.groups = await page.locator('#tome_txt2img_found').first().innerText();
  await tall(1500);
  await shot('page');
  await shot('accordion', accordion);
  for (const name of ['speed_knobs', 'binding_knobs']) await unfold(name);
  await tall(3000);
  await shot('knobs', accordion);
  await tall(1000);
  found.first = await generate('a red circle and a blue square');
  await tall(1500);
  await shot('picture');
  const text = `a red circle\nSteps: 8, Sampler: Euler, Seed: 3, Size: 256x256, ${process.env.INFOTEXT ?? ''}`;
  await page.locator('#txt2img_prompt textarea').first().fill(text);
  await page.locator('#paste').first().click();
  await page.waitForTimeout(3000);
  found.pasted = await values();
  await page.locator('#tabs button').filter({ hasText: 'ToMe' }).first().click();
  await page.locator('#tome_show_report').click();
  await page.waitForTimeout(1500);
  await tall(1000);
  await shot('tab');
  found.tab = await page.locator('#tome_report').first().innerText();
  await page.locator('#settings_restart_gradio, a:has-text("Reload UI")').last().click();
  await page.waitForTimeout(25_000);
  await open();
  await tick();
  found.reloaded = await generate('a red circle and a blue square');
  found.tabs = await page.locator('#tab_tome, [id=tab_tome]').count();
} catch (error) {
  found.failed = error.message;
  await shot('failed');
}
await browser.close();
console.log(JSON.stringify(found));
