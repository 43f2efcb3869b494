// report.html as its readers use it: in a browser, by mouse and by keyboard, on paper of either colour.
//
//   node report_test.mjs PROGRAM FOLDER BROWSER
//
// Makes run folders under FOLDER, draws their pages with PROGRAM and leaves screenshots in FOLDER/screenshots.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { boundedRun, comparableRun, hostileRun, HOSTILE, itemRun, largeRun, sparseRun, taskRun, watchedRun, withDifferences } from "./runs.mjs";

const [program, folder, executablePath] = process.argv.slice(2);
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const work = path.join(folder, "runs"), shots = path.join(folder, "screenshots");
for (const place of [work, shots]) {
  fs.rmSync(place, { recursive: true, force: true });
  fs.mkdirSync(place, { recursive: true });
}
const depthlens = (...args) => execFileSync(program, [...args, "--quiet"], { cwd: root, stdio: ["ignore", "pipe", "inherit"] });

const corpus = path.join(work, "corpus");
depthlens("analyze", "--input", "data/corpora/harbour.txt", "--lens", "logit", "--lens", "tuned:data/demo/lens", "--out", corpus);
const pages = { corpus: path.join(corpus, "report.html"), comparison: path.join(work, "comparison.html"), differences: path.join(work, "differences.html") };
for (const [name, make] of Object.entries({ hostile: hostileRun, task: taskRun, items: itemRun, watched: watchedRun, large: largeRun, deep: comparableRun, bounded: boundedRun })) {
  make(path.join(work, name));
  depthlens("report", path.join(work, name));
  pages[name] = path.join(work, name, "report.html");
}
for (const [experiment, input] of [["facts", "facts.jsonl"], ["choices", "choices.jsonl"], ["pos", "words.conllu"], ["patching", "pairs.jsonl"]]) {
  const out = path.join(work, experiment);
  depthlens("analyze", "--experiment", experiment, "--input", `data/tasks/${input}`, "--out", out);
  pages[experiment] = path.join(out, "report.html");
}
/** Runs of few fields: what the page has, and what it says is missing. */
const FEW = {
  ranks: ["final_rank,target_rank", ["rank of the final token", "rank of the target"]],
  guesses: ["top_ids,top_tokens", ["top-1 token"]],
  numbers: ["entropy,kl_final,top_ids,top_logprobs", ["entropy", "KL to final"]],
  targets: ["target_rank,top_ids,top_tokens,top_logprobs", ["top-1 token", "probability", "rank of the target"]],
  nothing: ["settled_layer,kl_reverse", []],
};
for (const [name, [fields]] of Object.entries(FEW)) {
  const out = path.join(work, "few-" + name);
  depthlens("analyze", "--input", "data/corpora/harbour.txt", "--limit", "3", "--records", "jsonl.zst", "--record-fields", fields, "--out", out);
  pages["few-" + name] = path.join(out, "report.html");
}
// Of the last layer all divergences are 0; two of the tokens differ by a space.
pages.last = path.join(work, "last", "report.html");
depthlens("analyze", "--input", "data/corpora/harbour.txt", "--limit", "3", "--layers", "12", "--watch", " in", "--watch", "#262", "--out", path.dirname(pages.last));
depthlens("report", "--compare", corpus, path.join(work, "deep"), "--out", pages.comparison);
boundedRun(path.join(work, "other"), { scale: 2 });
depthlens("report", "--compare", ...["bounded", "other", "deep"].map((name) => path.join(work, name)), "--out", pages.differences);
withDifferences(pages.differences);

sparseRun(path.join(work, "sparse"));
pages.sparse = path.join(work, "sparse.html");
depthlens("report", "--compare", ...["task", "sparse"].map((name) => path.join(work, name)), "--out", pages.sparse);
pages.untargeted = path.join(work, "untargeted", "report.html");
depthlens("analyze", "--experiment", "frequency", "--input", "data/corpora/harbour.txt", "--positions", "last", "--out", path.dirname(pages.untargeted));

/** Runs of the same text: of few layers, of drawn positions, of a model of the same name with other weights; long names. */
const alike = (name) => path.join(work, name), LONG = "a-run-whose-name-is-longer-than-a-legend-seed-";
depthlens("analyze", "--input", "data/corpora/harbour.txt", "--layers", "0,6,12", "--out", alike("few-layers"));
depthlens("analyze", "--input", "data/corpora/harbour.txt", "--positions", "sample:40", "--out", alike("drawn"));
depthlens("analyze", "--experiment", "exit", "--input", "data/tasks/facts.jsonl", "--out", alike("exit"));
for (const [from, to, digest] of [["corpus", LONG + "1", "aa11"], ["corpus", LONG + "2", "bb22"]]) {
  fs.cpSync(alike(from), alike(to), { recursive: true });
  const run = JSON.parse(fs.readFileSync(path.join(alike(to), "run.json"), "utf8"));
  run.model.digest = digest;
  fs.writeFileSync(path.join(alike(to), "run.json"), JSON.stringify(run));
}
// Watched tokens of the same texts, one of another id.
for (const [name, id] of [["six", 6], ["seven", 7]]) {
  fs.cpSync(alike("bounded"), alike(name), { recursive: true });
  const run = JSON.parse(fs.readFileSync(path.join(alike(name), "run.json"), "utf8"));
  run.settings = { ...run.settings, watch: [{ text: " Paris", id: 5 }, { text: " Rome", id }], watch_pairs: [" Paris, Rome"], watch_pair_tokens: [[0, 1]] };
  fs.writeFileSync(path.join(alike(name), "run.json"), JSON.stringify(run));
}
pages.apart = path.join(work, "apart.html");
depthlens("report", "--compare", alike("six"), alike("seven"), "--out", pages.apart);
pages.drawn = path.join(alike("drawn"), "report.html");
pages.exit = path.join(alike("exit"), "report.html");
pages.kinds = path.join(work, "kinds.html");
pages.weights = path.join(work, "weights.html");
depthlens("report", "--compare", corpus, alike("few-layers"), alike("patching"), alike("facts"), "--out", pages.kinds);
depthlens("report", "--compare", alike(LONG + "1"), alike(LONG + "2"), "--out", pages.weights);
// Two files whose items have the same names.
const items = ["one", "two"].map((name) => path.join(work, name + ".jsonl"));
items.forEach((file, i) => fs.writeFileSync(file, JSON.stringify({ id: "q", prompt: "The capital of France is", answer: ["Paris", "Rome"][i] }) + "\n"));
pages.names = path.join(work, "names", "report.html");
depthlens("analyze", "--experiment", "facts", "--keep", "all", "--input", ...items, "--out", path.dirname(pages.names));

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
let failures = 0, count = 0;

/** Opens a page in a window of its own; whatever it logs, throws or asks of a network fails the test. */
async function test(name, file, options, check) {
  ++count;
  // Without motion: a click may miss what it was aimed at while the page glides to it.
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, reducedMotion: "reduce", ...options });
  const page = await context.newPage(), complaints = [];
  page.setDefaultTimeout(15000);
  page.on("console", (message) => complaints.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (!/^(file|data|blob):/.test(request.url())) complaints.push(`request: ${request.url()}`); });
  try {
    await page.goto(pathToFileURL(file).href);
    await check(page);
    assert.deepEqual(complaints, []);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is wider than the window");
    console.log(`ok      ${name}`);
  } catch (error) {
    ++failures;
    console.log(`FAILED  ${name}\n${error.stack.split("\n").filter((line) => !line.startsWith("\u001b")).join("\n")}\n${complaints.join("\n")}`);
  }
  await context.close();
}
const cell = (page, column, layer) => page.locator(`.cell[data-column="${column}"][data-layer="${layer}"]`);
const shot = (page, name) => page.screenshot({ path: path.join(shots, name + ".png"), fullPage: true });
const records = fs.readFileSync(path.join(corpus, "records.jsonl"), "utf8").split("\n").filter(Boolean).slice(0, 40).map((line) => JSON.parse(line));
const shown = (text) => text.replaceAll(" ", "·").replaceAll("\n", "⏎");

for (const [name, file] of Object.entries(pages)) {
  await test(`${name}: every figure is drawn, with labelled axes and a table behind it`, file, {}, async (page) => {
    assert.ok(fs.statSync(file).size < 2_000_000);
    const figures = page.locator("figure:not([hidden])");
    assert.ok((await figures.count()) >= (["items", "watched", "large"].includes(name) ? 1 : 4));
    for (const figure of await figures.all()) {
      assert.ok((await figure.locator(".plot svg rect, .plot svg path").count()) > 0);
      assert.ok((await figure.locator(".plot svg text").count()) > 4);
      await figure.locator("summary").click();
      await figure.locator("tbody tr").first().waitFor();
    }
    assert.equal(await page.locator("text=/NaN|undefined|\\[object/").count(), 0);
    assert.equal(await page.locator("path[d*=NaN]").count(), 0);
  });
}

await test("hovering tells the top predictions", pages.corpus, {}, async (page) => {
  await cell(page, 5, 8).hover();
  const rows = page.locator("#tooltip table tr"), expected = records[5].lenses.logit;
  for (let k = 0; k < 10; ++k) {
    const text = (await rows.nth(k).locator("td").allInnerTexts()).join(" ");
    assert.ok(text.includes(String(expected.top_ids[8][k])), text);
    assert.ok(text.includes(shown(expected.top_tokens[8][k])), text);
    const percent = Number(/([\d.]+) %/.exec(text)[1]);
    assert.ok(Math.abs(percent / 100 - Math.exp(expected.top_logprobs[8][k])) < 0.003, text);
  }
  assert.deepEqual(await rows.nth(10).locator("td").allInnerTexts(), [`rank of the final token ${shown(records[5].final.text)}`, String(expected.final_rank[8])]);
  await page.mouse.move(5, 5);
  await page.locator("#tooltip").waitFor({ state: "hidden" });
});

await test("every cell tells the guess of its record", pages.corpus, {}, async (page) => {
  const labels = await page.locator(".cell").evaluateAll((cells) => cells.map((each) => [each.dataset.column, each.dataset.layer, each.getAttribute("aria-label")]));
  for (const [column, layer, label] of labels.filter(([column]) => Number(column) < records.length)) {
    assert.ok(label.includes(`: ${shown(records[column].lenses.logit.top_tokens[layer][0])}, `), label);
  }
});

await test("clicks pin trajectories, which can be compared and unpinned", pages.corpus, {}, async (page) => {
  const curves = page.locator("#trajectories .plot path.curve"), chips = page.locator(".chips li");
  assert.ok(await page.locator("#trajectories").isHidden());
  await cell(page, 3, 5).click();
  await cell(page, 7, 2).click();
  assert.equal(await chips.count(), 2);
  assert.equal(await curves.count(), 4);
  await page.locator("#trajectories summary").click();
  const ranks = await page.locator("#trajectories tbody tr").evaluateAll((rows) => rows.map((row) => Number(row.cells[8].textContent.replaceAll(",", ""))));
  assert.deepEqual(ranks, [3, 7].flatMap((column) => records[column].lenses.logit.final_rank));
  await cell(page, 3, 9).click();
  assert.equal(await chips.count(), 1);
  await chips.locator("button").click();
  assert.ok(await page.locator("#trajectories").isHidden());
  for (let column = 0; column < 9; ++column) await cell(page, column, 1).click();
  assert.equal(await chips.count(), 8);
});

await test("the keyboard does what the mouse does", pages.corpus, {}, async (page) => {
  await page.locator('.cell[tabindex="0"]').focus();
  assert.ok(await page.locator("#tooltip").isVisible());
  const place = () => page.evaluate(() => `${document.activeElement.dataset.column} ${document.activeElement.dataset.layer}`);
  assert.equal(await place(), "0 12");
  for (const key of ["ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"]) await page.keyboard.press(key);
  assert.equal(await place(), "1 11");
  assert.match(await page.locator("#tooltip").innerText(), /layer 11 · position 1/);
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(".chips li").count(), 1);
  assert.equal(await place(), "1 11");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(".chips li").count(), 0);
  await page.keyboard.press("Escape");
  assert.ok(await page.locator("#tooltip").isHidden());
  await page.keyboard.press("End");
  await page.keyboard.press("PageUp");
  assert.match(await place(), /^\d+ 0$/);
  assert.equal(await page.locator('.cell[tabindex="0"]').count(), 1);
  await page.locator("#lens .hit").first().focus();
  await page.keyboard.press("ArrowRight");
  assert.match(await page.locator("#tooltip").innerText(), /layer: 0/);
  assert.match(await page.locator("#announcement").textContent(), /logit/);
});

await test("lens, value and window can be chosen", pages.corpus, {}, async (page) => {
  const label = () => cell(page, 4, 2).getAttribute("aria-label");
  await page.getByLabel("tuned", { exact: true }).check();
  assert.ok((await label()).includes(shown(records[4].lenses.tuned.top_tokens[2][0])));
  for (const [name, part] of [["probability", "probability of"], ["rank of the final token", "rank of the token that the model"], ["rank of the target", "rank of the token that follows"], ["entropy", "entropy, nats"], ["KL to final", "KL(final ‖ layer)"]]) {
    await page.getByLabel(name, { exact: true }).check();
    assert.ok((await label()).includes(part), await label());
    assert.ok(new Set(await page.locator(".cell rect").evaluateAll((all) => all.map((rect) => rect.getAttribute("fill")))).size > 10);
  }
  assert.ok((await label()).includes(`KL(final ‖ layer), nats ${Number(records[4].lenses.tuned.kl_final[2].toFixed(3))}`), await label());
  const before = await label();
  await page.locator("#window-select").selectOption({ index: 1 });
  assert.notEqual(await label(), before);
  assert.match(await page.locator("#kept").innerText(), /documents 0–4 of 5 .*: 5 of 5 windows, 789 of 789 positions\. Tables and plots count all 789 analysed positions\./);
});

await test("plots tell their values", pages.corpus, {}, async (page) => {
  const hit = page.locator("#lens .hit").first();
  await hit.scrollIntoViewIfNeeded();
  await hit.hover();
  const text = await page.locator("#tooltip").innerText();
  assert.match(text, /layer: 6/);
  assert.match(text, /logit\s+[\d.]+ \([\d.]+ to [\d.]+\)\s+tuned\s+[\d.]+ \([\d.]+ to [\d.]+\)/);
});

await test("numbers are told as they are: shares below 0, nearly all, and axes of any length", pages.corpus, {}, async (page) => {
  const told = await page.evaluate(() => [-0.1234, -1, -0.0005, 0, 0.00002, 0.5, 0.9994, 0.9995, 0.99952, 0.9999996, 1].map(formatShare));
  assert.deepEqual(told, ["-12.3 %", "-100 %", "-0.050 %", "0 %", "2e-3 %", "50.0 %", "99.9 %", "99.95 %", "99.95 %", ">99.999 %", "100 %"]);
  for (const [low, high] of [[0.21, 0.45], [0.21, 0.9], [0.11, 9], [0.41, 0.49], [1, 50000], [1e-9, 1]]) {
    const ticks = await page.evaluate((ends) => logScale(...ends, 0, 1).ticks.map(({ value }) => value), [low, high]);
    assert.ok(ticks.length >= 3 && ticks.length <= 10 && ticks.every((value) => value > 0.99 * low && value < 1.01 * high), `${low} to ${high}: ${ticks}`);
  }
  // Marks of an axis are called what they are, however near they are to each other.
  for (const [low, high] of [[9.8612, 9.8712], [12345.1, 12345.9], [0.1, 0.9], [-3, 40], [1.00001e-6, 1.00004e-6], [0.00012, 0.00013], [8.6062e-7, 8.6081e-7]]) {
    for (const share of [false, true]) {
      const ticks = await page.evaluate(([low, high, share]) => linearScale(low, high, 0, 1, share ? { text: formatTickShare } : {}).ticks, [low, high, share]);
      const told = ticks.map(({ text }) => Number(text.replace("−", "-").replace(" %", "").replaceAll(",", "")) / (share ? 100 : 1));
      ticks.forEach(({ value, text }, i) => assert.ok(Math.abs(told[i] - value) <= 1e-3 * (high - low), `${value} is called ${text}`));
    }
  }
  // What all have reached at the last layer is all.
  const settling = page.locator("figure", { has: page.getByRole("heading", { name: "When the final token first comes near the top", exact: true }) });
  await settling.locator(".hit").first().focus();
  await page.keyboard.press("End");
  assert.deepEqual((await page.locator("#tooltip td.number").allTextContents()).map((text) => text.trim()), ["100 %", "100 %", "100 %"]);
  const order = await page.evaluate(() => [inOrderOf("layer", [12, 0, null, 2]), inOrderOf("position", ["last", "first_different"]), inOrderOf("class", ["b", "a"])]);
  assert.deepEqual(order, [[0, 2, 12, null], ["first_different", "last"], ["b", "a"]]);
  // Points at one place are all told; long names keep the ends of their parts.
  assert.equal(await page.evaluate(() => pointsAt({ points: [{ x: 1, y: 1 }, { x: 1, y: 1 }, { x: 2, y: 1 }] }, 1, { shows: () => true, position: (x) => x }).length), 2);
  const name = await page.evaluate(() => fittedName("a-run-of-a-long-name-validation-a · tuned-lens-lr-0.001-steps-25000-seed-1", 300));
  assert.match(name, /ion-a · .*seed-1$/);
});

await test("watched tokens of one text and several ids are told apart", pages.apart, {}, async (page) => {
  const titles = (await page.locator("#watch figure").first().locator(".panel-title").allTextContents()).join("|");
  assert.match(titles, /·Rome·\(#6\)/);
  assert.match(titles, /·Rome·\(#7\)/);
  assert.ok(!titles.includes("#5"), titles);
});

await test("without targets no distance from them is drawn", pages.untargeted, {}, async (page) => {
  assert.equal(await page.locator("#frequency figure").count(), await page.locator("#frequency figure h3:not(:text('Distance of the guesses'))").count());
  assert.ok(await page.locator("#frequency figure").count() >= 2);
});

await test("pictures and tables can be downloaded", pages.corpus, {}, async (page) => {
  const download = async (locator) => {
    const [file] = await Promise.all([page.waitForEvent("download", { timeout: 60000 }), locator.click()]);
    return { name: file.suggestedFilename(), bytes: fs.readFileSync(await file.path()) };
  };
  await page.getByLabel("entropy", { exact: true }).check();
  for (const id of ["#map", "#lens figure:first-child"]) {
    const figure = page.locator(id).first();
    const svg = await download(figure.getByText("SVG", { exact: true }));
    const text = svg.bytes.toString("utf8");
    assert.match(svg.name, /\.svg$/);
    assert.match(text, /^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    assert.ok(!text.includes("var(--") && !text.includes("class="));
    fs.writeFileSync(path.join(shots, svg.name), svg.bytes);
    const png = await download(figure.getByText("PNG", { exact: true }));
    assert.deepEqual([...png.bytes.subarray(1, 4)], [..."PNG"].map((letter) => letter.charCodeAt(0)));
    assert.ok(png.bytes.length > 5000);
    fs.writeFileSync(path.join(shots, png.name), png.bytes);
    const csv = (await download(figure.getByText("CSV", { exact: true }))).bytes.toString("utf8");
    assert.ok(csv.split("\n").length > 20);
  }
  // named by what is shown
  const differences = page.locator("#lens figure").filter({ has: page.getByLabel("Δ agreement") });
  assert.equal((await download(differences.getByText("CSV", { exact: true }))).name, "lens.difference.kl_final.csv");
  await differences.getByLabel("Δ agreement").check();
  assert.equal((await download(differences.getByText("CSV", { exact: true }))).name, "lens.difference.top1_agreement.csv");
});

await test("pictures for paper: black on nothing, of the size and font that were chosen", pages.corpus, { colorScheme: "dark" }, async (page) => {
  const figure = page.locator("#lens figure").first();
  const download = async (text) => {
    const [file] = await Promise.all([page.waitForEvent("download"), figure.getByText(text, { exact: true }).click()]);
    return fs.readFileSync(await file.path());
  };
  const shownBefore = await figure.locator(".plot").innerHTML();
  await figure.getByText("Size…").click();
  await page.getByLabel("85 mm").check();
  await page.getByLabel("Times", { exact: true }).check();
  await page.getByText("Done").click();
  const text = (await download("SVG")).toString("utf8");
  assert.match(text, /^<svg width="85mm" height="[\d.]+mm" viewBox="0 0 321 \d+"/);
  assert.match(text, /<title>Distance from the model's output<\/title>/);
  assert.ok(!/class=|var\(|100%/.test(text));
  for (const [letters] of text.matchAll(/<text [^>]*>/g)) assert.match(letters, /fill="rgb\(0, 0, 0\)".*font-family="'Times New Roman'/);
  const png = await download("PNG");
  assert.equal(png.readUInt32BE(16), 1003 + 1);  // 85 mm at 300 dots per inch
  assert.equal(png.subarray(37, 41).toString(), "pHYs");
  assert.equal(png.readUInt32BE(41), 11811);  // dots per metre
  const corner = await page.evaluate(async (base64) => {
    const image = new Image();
    image.src = "data:image/png;base64," + base64;
    await image.decode();
    const context = document.createElement("canvas").getContext("2d");
    context.drawImage(image, 0, 0);
    return [...context.getImageData(1, 60, 1, 1).data];
  }, png.toString("base64"));
  assert.equal(corner[3], 0, "the background is not transparent");
  await figure.getByText("Size…").click();
  await page.getByLabel("other", { exact: true }).check();
  await page.getByLabel("Width", { exact: true }).fill("500");
  await page.getByLabel("Unit of the width").selectOption("px");
  await page.getByText("Done").click();
  assert.match((await download("SVG")).toString("utf8"), /^<svg width="500px"/);
  assert.equal(await figure.locator(".plot").innerHTML(), shownBefore);
});

await test("light and dark", pages.corpus, { colorScheme: "dark" }, async (page) => {
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await paper();
  await cell(page, 3, 5).click();
  await page.getByLabel("KL to final", { exact: true }).check();
  await page.mouse.move(2, 2);
  await shot(page, "dark");
  await page.getByLabel("light", { exact: true }).check();
  assert.notEqual(await paper(), dark);
  await shot(page, "light");
  await page.getByLabel("auto", { exact: true }).check();
  assert.equal(await paper(), dark);
});

await test("a narrow window", pages.corpus, { viewport: { width: 390, height: 800 } }, async (page) => {
  await cell(page, 1, 5).click();
  await shot(page, "narrow");
});

await test("paper", pages.corpus, {}, async (page) => {
  await page.emulateMedia({ media: "print" });
  for (const controls of await page.locator(".controls").all()) assert.ok(await controls.isHidden());
  assert.ok((await page.pdf()).length > 10000);
});

await test("a dark page is printed on white, its figures as wide as a sheet", pages.task, { colorScheme: "dark" }, async (page) => {
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  await page.emulateMedia({ media: "print" });
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(253, 252, 249)");
  assert.ok((await page.locator("figure.wide .plot svg").evaluateAll((all) => all.map((svg) => svg.width.baseVal.value))).every((width) => width <= 640));
  for (const figure of await page.locator("figure").all()) assert.equal(await figure.evaluate((node) => getComputedStyle(node).breakInside), "avoid");
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  await page.emulateMedia({ media: "screen" });
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(253, 252, 249)");
});

await test("on paper a map is in strips that hold every token, and whole again afterwards", pages.corpus, {}, async (page) => {
  await page.getByLabel("dark", { exact: true }).check();
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  const strips = page.locator("#map .strips > svg"), tokens = records.length;
  assert.ok((await strips.count()) > 5);
  const heads = (await strips.locator("text:not(.token)").allTextContents()).filter((text) => /^\d+$/.test(text)).map(Number);
  for (let position = 0; position < tokens; ++position) assert.ok(heads.includes(position));
  for (const width of await strips.evaluateAll((all) => all.map((strip) => strip.getAttribute("width")))) assert.equal(width, "900");
  assert.match(await page.locator("#map .strips").innerText(), /document 0: All 152 columns, lens logit/);
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  assert.equal(await strips.count(), 0);
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  await cell(page, 3, 5).click();
});

await test("hostile text does nothing", pages.hostile, {}, async (page) => {
  assert.equal(await page.locator("img, iframe, object, embed, link").count(), 0);
  assert.equal(await page.locator("script").count(), 2);
  assert.equal(await page.evaluate(() => window.harmed), undefined);
  for (const [column, text] of HOSTILE.entries()) {
    await cell(page, column, 1).focus();
    await page.keyboard.press("Enter");
    const told = await page.locator("#tooltip").innerText();
    assert.ok(text.length > 40 || !/[<>]/.test(text) || told.includes(text.replaceAll(" ", "·")), told);
    assert.ok(!/[\u202a-\u202e\u2066-\u2069\u2028\u2029\u0000-\u0008\u200b]/.test(told), told);
  }
  await page.locator("#map summary").click();
  await page.locator("#tables summary").first().click();
  await page.locator("#window-select").selectOption({ index: 1 });
  assert.equal(await page.evaluate(() => window.harmed), undefined);
  await shot(page, "hostile");
});

await test("equal tokens are cells of their own", pages.hostile, {}, async (page) => {
  await page.locator("#window-select").selectOption({ index: 1 });
  assert.equal(await page.locator(".cell").count(), 3 * 3);
  await cell(page, 0, 0).click();
  await cell(page, 2, 0).click();
  assert.equal(await page.locator(".chips li").count(), 2);
});

await test("items of one record each stand side by side", pages.items, {}, async (page) => {
  assert.equal(await page.locator("#window-select option").count(), 60);
  assert.equal(await page.getByRole("grid").getAttribute("aria-colcount"), "60");
  await cell(page, 3, 2).hover();
  assert.match(await page.locator("#tooltip").innerText(), /layer 2 · item q3, position 7/);
  await cell(page, 3, 2).click();
  await cell(page, 4, 2).click();
  assert.equal(await page.locator(".chips li").count(), 2);
  await shot(page, "items");
});

await test("tasks: bands, dots, heat maps; tables that are not known are plain", pages.task, {}, async (page) => {
  assert.ok((await page.locator("#choices path.band").count()) > 4);
  assert.ok((await page.locator("#facts line.whisker").count()) > 4);
  assert.ok((await page.locator("#patching rect[role=img]").count()) > 10);
  assert.equal(await page.locator("#patching text", { hasText: "last token (n = 9)" }).count(), 2);
  assert.match(await page.locator("#tables").innerText(), /some\.table[\s\S]*42/);
  assert.match(await page.locator("header").innerText(), /dropped: 7 \(wrong answer\)/);
  await shot(page, "task");
});

await test("classes of few words look uncertain, those without words leave the legend", pages.task, {}, async (page) => {
  const figure = page.locator("#pos figure").first();
  assert.match(await figure.locator(".plot").innerText(), /NOUN \(n = 20\)[\s\S]*VERB \(n = 4\)[\s\S]*DET \(n = 20\)/);
  assert.ok(!(await figure.locator(".plot").innerText()).includes("INTJ"));
  assert.match(await figure.locator(".note").innerText(), /n counts words\. Thin and dotted: fewer than 10\..*Without words: INTJ\./);
  // in the legend and in each of two panels
  assert.equal(await figure.locator(".curve.few").count(), 3);
  assert.equal(await figure.locator(".curve:not(.few)").count(), 6);
  assert.equal(await figure.locator(".band").count(), 0);
  await figure.getByLabel("mean", { exact: true }).check();
  assert.match(await figure.locator(".plot").innerText(), /mean rank/);
  assert.equal(await figure.locator(".band").count(), 6);
});

await test("leaving early: thresholds beside the points, the last layer, speed with agreement", pages.task, {}, async (page) => {
  const figure = page.locator("#calibration figure").first();
  assert.deepEqual(await figure.locator("svg .panel-title").allTextContents(), ["max. probability ≥ τ", "entropy ≤ τ", "gap of the top two ≥ τ"]);
  const labels = await figure.locator("svg .point-label").allTextContents();
  for (const text of ["0.9", "0.5", "0.1"]) assert.ok(labels.includes(text));
  assert.equal(labels.filter((text) => text === "last layer").length, 3);
  await figure.locator(".hit").first().focus();
  await page.keyboard.press("End");
  assert.match(await page.locator("#tooltip").innerText(), /85\.0 % at τ = 0\.9, at most 1\.11 times as fast/);
  await figure.locator("summary").click();
  assert.match(await figure.locator("thead").innerText(), /agreement[\s\S]*speed-up at most/);
});

await test("divergences that a layer would flatten are logarithmic; intervals, medians and levels", pages.bounded, {}, async (page) => {
  const figure = (title) => page.locator("figure", { has: page.getByRole("heading", { name: title, exact: true }) });
  const distance = figure("Distance from the model's output");
  assert.ok(await distance.getByLabel("logarithmic").isChecked());
  assert.match(await distance.locator(".note").innerText(), /n = 120 .*Bands: 95 % bootstrap intervals over documents\. 0 has no place/);
  assert.equal(await distance.locator(".band").count(), 2);
  await distance.getByLabel("linear").check();
  assert.ok(!(await distance.locator(".note").innerText()).includes("no place"));
  const y = (await distance.locator("path.curve").first().getAttribute("d")).split(/[ML]/).slice(1).map((corner) => Number(corner.split(" ")[1]));
  assert.equal(y.length, 7);
  assert.ok(y[1] - y[0] > 100 && y[5] - y[1] < 5, "on a linear axis layer 0 is far from all others");
  assert.match(await figure("Rank of what the model says in the end").locator(".plot").innerText(), /median rank of the final token/);

  assert.equal(await figure("Where guesses become final").locator(".whisker").count(), 14);
  const settling = figure("When the final token first comes near the top");
  assert.equal(await settling.locator(".band").count(), 0);  // intervals of sums are not sums of intervals
  await settling.getByLabel("at a layer", { exact: true }).check();
  assert.equal(await settling.locator(".band").count(), 4);

  const guesses = figure("How frequent are the guesses?");
  assert.match(await guesses.locator(".note").innerText(), /frequency table: counts\/of-a-file\.json[\s\S]*Level dashed lines: the shares of the tokens that were to be predicted/);
  assert.equal(await guesses.locator(".reference").count(), 6);
  await guesses.getByLabel("stacked").check();
  assert.equal(await guesses.locator("rect.bar").count(), 3 + 2 * 7 * 3);
  assert.match(await figure("The frequency table").locator(".note").innerText(), /counts\/of-a-file\.json \(--token-counts\)\. n = 1,200 tokens/);
  const away = figure("Distance of the guesses from the tokens to be predicted");
  await away.locator("summary").click();
  assert.equal(await away.locator("tbody tr").first().innerText(), "logit\t0\t0.2");  // (0.2 + 0.1333 + 0.0667) / 2

  const difference = figure("Difference to the lens logit");
  assert.match(await difference.locator(".plot").innerText(), /tuned[\s\S]*−6[\s\S]*difference of KL/);
  await difference.getByLabel("Δ agreement").check();
  assert.match(await difference.locator(".plot").innerText(), /difference of agreement/);
  assert.equal(await page.locator("#watch figure").count(), 3);
  assert.match(await page.locator("#watch").innerText(), /·Paris[\s\S]*·Rome/);
  await shot(page, "bounded");
});

await test("facts: prompt and answer, each answer's tokens side by side", pages.facts, {}, async (page) => {
  const all = fs.readFileSync(path.join(work, "facts", "records.jsonl"), "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
  assert.equal(await page.getByRole("grid").getAttribute("aria-colcount"), String(all.length));
  const column = all.findIndex(({ answer_length: length, answer_position: position }) => length > 1 && position === 2);
  const { item, prompt, answer, answer_length: length, target } = all[column];
  await cell(page, column, 3).hover();
  assert.equal(await page.locator(".text-strip").innerText(), `item ${item} · position ${all[column].position} · answer token 2 of ${length}\n${prompt} ${answer}`);
  assert.match(await page.locator("#tooltip").innerText(), new RegExp(`item ${item}, position`));
  assert.ok((await page.locator("#tooltip").innerText()).includes(`rank of the answer's token ${shown(target.text)}`));
  assert.ok((await page.locator("#map .scroller").innerText()).includes(`2 of ${length}`));
  await page.locator("#window-select").selectOption({ index: 20 });
  assert.ok((await page.locator(".text-strip").innerText()).startsWith("item fact-21 "));
  assert.match(await page.locator("#kept").innerText(), /at which the model's own guess is right \(--keep correct\)/);
  await shot(page, "facts");
});

await test("choices: the question, and the options' ranks", pages.choices, {}, async (page) => {
  const [first] = fs.readFileSync(path.join(work, "choices", "records.jsonl"), "utf8").split("\n").map((line) => line && JSON.parse(line));
  await cell(page, 0, 12).hover();
  const strip = await page.locator(".text-strip").innerText();
  assert.ok(strip.includes(first.prompt) && strip.includes("options: A · B · C · D"), strip);
  for (const option of first.lenses.logit.options) {
    const row = await page.locator("#tooltip tr", { hasText: `option ${option.text}` }).locator("td").allInnerTexts();
    assert.equal(row[1], `rank ${option.rank[12].toLocaleString("en-US")}`);
    assert.ok(Math.abs(parseFloat(row[2]) / 100 - Math.exp(option.logprob[12])) < 0.003, row[2]);
  }
  await cell(page, 0, 12).click();
  assert.match(await page.locator("#trajectories .plot").innerText(), /option A/);
  await shot(page, "choices");
});

await test("words: class and word above each column; names that differ at their ends", pages.pos, {}, async (page) => {
  const [first] = fs.readFileSync(path.join(work, "pos", "records.jsonl"), "utf8").split("\n").map((line) => line && JSON.parse(line));
  const map = await page.locator("#map .scroller").innerText();
  assert.ok(map.includes(first.class) && map.includes(shown(first.target.text)), map);
  assert.match(await page.locator(".text-strip").innerText(), new RegExp(`class ${first.class}\\n${first.prompt} ${first.answer}`));
  await shot(page, "pos");
});

await test("patching: restored is drawn, centred where nothing is restored, with n and intervals", pages.patching, {}, async (page) => {
  assert.equal(await page.locator(".notice").count(), 0);
  assert.match(await page.locator("header").innerText(), /13 of 13 pairs, \d+ runs of the model/);
  const tables = JSON.parse(fs.readFileSync(path.join(work, "patching", "summary.json"), "utf8")).tables["patching.effect"];
  const rows = tables.rows.map((row) => Object.fromEntries(tables.columns.map((name, i) => [name, row[i]])));
  const figures = page.locator("#patching figure");
  assert.match(await figures.first().locator("h3").innerText(), /restores/);
  const label = (figure, layer, token) => figure.locator(`rect[aria-label^="layer ${layer}, token ${token};"]`);
  const told = await label(figures.nth(0), 3, "last different token").getAttribute("aria-label");
  const row = rows.find(({ layer, position }) => layer === 3 && position === "last_different");
  assert.ok(told.includes(String(Number(row.restored.toPrecision(4)))) && told.includes("95 %") && told.includes(`n = ${row.restored_count}`), told);
  // A patch that changes nothing has the colour of the middle in both maps.
  const middle = await label(figures.nth(0), 12, "last different token").getAttribute("fill");
  assert.equal(middle, "rgb(246,243,234)");
  assert.equal(await label(figures.nth(1), 12, "last different token").getAttribute("fill"), middle);
  assert.notEqual(await label(figures.nth(1), 12, "last token").getAttribute("fill"), middle);
  // What is not known is no effect of 0.
  const unknown = await page.evaluate(() => {
    const spec = PLOTS.find(({ baseline }) => baseline);
    return [...matrixOf({ ...spec, y: spec.y }, [{ layer: 0, position: "last", value: null, [spec.baseline]: null }, { layer: 1, position: "last", value: 2, [spec.baseline]: 0.5 }], { facets: [] }).panels[0].cells.values()].map(({ value }) => value);
  });
  assert.deepEqual(unknown, [null, 1.5]);
  await label(figures.nth(1), 12, "last token").hover();
  assert.match(await page.locator("#tooltip").innerText(), /without a patch/);
  await shot(page, "patching");
  // Keys go from cell to cell: right by a layer, down by a token.
  const map = figures.nth(0), focused = () => page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  await map.locator("rect[tabindex='0']").focus();
  const first = await focused();
  assert.match(first, /^layer 0, token first different token;/);
  await page.keyboard.press("ArrowRight");
  assert.match(await focused(), /^layer 1, token first different token;/);
  await page.keyboard.press("ArrowDown");
  assert.match(await page.locator("#tooltip").innerText(), /^layer 1, token /);
  // The tooltip is the keyboard's, whatever comes to lie beneath the pointer, until that moves.
  const toldByKeys = await page.locator("#tooltip").innerText(), below = map.locator("rect[aria-label]").nth(40);
  const box = await below.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  assert.equal((await page.locator("#tooltip").innerText()).split("\n")[0], (await below.getAttribute("aria-label")).split(";")[0]);
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowDown");
  await page.evaluate(() => scrollBy(0, 24));
  await page.waitForTimeout(300);
  assert.equal(await page.locator("#tooltip").innerText(), toldByKeys);
  await page.mouse.move(box.x + box.width / 2 + 1, box.y + box.height / 2);
  assert.notEqual(await page.locator("#tooltip").innerText(), toldByKeys);
  assert.notEqual((await focused()).split(";")[0], first.split(";")[0]);
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowLeft");
  assert.equal(await focused(), first);
  await page.keyboard.press("Escape");
  assert.ok(!(await page.locator("#tooltip").isVisible()));
});

await test("tables tell white space of tokens", pages.last, {}, async (page) => {
  const figure = page.locator("#watch figure").first();
  await figure.locator("summary").click();
  const told = await figure.locator("tbody td").allInnerTexts();
  assert.ok(told.includes("·in") && told.includes("in"), told.join("|"));
});

await test("watched tokens colour the map, stand in tooltips and among pinned curves; a document's own id is told", pages.watched, {}, async (page) => {
  assert.match(await page.locator("#window-select option").nth(1).innerText(), /^document 1 \(second\), window 1 from token 3:/);
  await page.getByLabel("rank of ·she", { exact: true }).check();
  assert.match(await cell(page, 1, 2).getAttribute("aria-label"), /rank of the watched token ·she 12$/);
  await cell(page, 1, 2).hover();
  assert.match(await page.locator("#tooltip").innerText(), /·he\s+rank 3\s+36\.8 %\s+·she\s+rank 12/);
  await cell(page, 1, 2).click();
  assert.equal(await page.locator("#trajectories path.curve").count(), 3);
  assert.match(await page.locator("#kept").innerText(), /documents 0–1 of 5 .*: 3 of 6 windows, 15 of 20 positions\. 5 positions have no record \(--max-records\)\. Tables and plots count all 20/);
});

for (const [name, [fields, values]] of Object.entries(FEW)) {
  await test(`records of few fields (${name}): what is there is drawn, what is missing is told`, pages["few-" + name], {}, async (page) => {
    const told = await page.locator("#missing").innerText(), given = fields.split(",");
    for (const field of ["top_ids", "top_tokens", "top_logprobs", "final_rank", "target_rank", "entropy", "kl_final"]) {
      assert.equal(new RegExp(`\\b${field}\\b`).test(told.split(" (--record-fields)")[0]), !given.includes(field), told);
    }
    assert.match(await page.locator("footer").innerText(), /records\.jsonl\.zst/);
    await shot(page, "few-" + name);
    if (values.length === 0) {
      assert.match(told, /Nothing is left to draw/);
      assert.equal(await page.locator(".cell").count(), 0);
      return;
    }
    const choices = page.locator("#layers fieldset.choice", { hasText: "Cells coloured by" });
    assert.deepEqual(await choices.locator("label").allInnerTexts(), values);
    assert.ok(await choices.locator("input").first().isChecked());
    for (const value of values) {
      await choices.getByLabel(value, { exact: true }).check();
      await cell(page, 2, 3).hover();
      const tip = await page.locator("#tooltip").innerText(), guesses = values.includes("top-1 token");
      assert.equal(/rank of the final token/.test(tip), given.includes("final_rank"), tip);
      assert.equal(/rank of the target/.test(tip), given.includes("target_rank"), tip);
      assert.equal(/entropy, nats/.test(tip), given.includes("entropy"), tip);
      assert.equal(/KL\(final/.test(tip), given.includes("kl_final"), tip);
      assert.equal(/%/.test(tip), guesses && given.includes("top_logprobs"), tip);
      assert.ok((await cell(page, 2, 3).locator("text").textContent()).length > 0);
    }
    await cell(page, 2, 3).click();
    const ranked = given.some((field) => field.endsWith("_rank"));
    assert.equal(await page.locator("#trajectories").isVisible(), ranked);
    if (ranked) {
      assert.ok((await page.locator("#trajectories .plot path.curve").count()) > 0);
      await page.locator("#trajectories summary").click();
      const head = await page.locator("#trajectories thead").innerText();
      assert.equal(/final.rank/.test(head), given.includes("final_rank"), head);
    }
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    assert.ok((await page.locator("#map .strips svg .cell").count()) > 0);
    await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  });
}

await test("a large window: few columns in the document, all within reach", pages.large, {}, async (page) => {
  const columns = () => page.locator(".cell").evaluateAll((all) => [...new Set(all.map(({ dataset }) => Number(dataset.column)))]);
  assert.ok((await columns()).length < 45);
  assert.ok(!(await columns()).includes(299));
  await page.locator(".overview").scrollIntoViewIfNeeded();
  const box = await page.locator(".overview").boundingBox();
  await page.mouse.click(box.x + box.width - 2, box.y + 10);
  await cell(page, 299, 0).waitFor();
  await page.locator("#map .scroller").evaluate((node) => { node.scrollLeft = 0; });
  await cell(page, 0, 4).click();
  await page.keyboard.press("End");
  const place = () => page.evaluate(() => `${document.activeElement.dataset.column} ${document.activeElement.dataset.layer}`);
  assert.equal(await place(), "299 4");
  await page.keyboard.press("Control+ArrowLeft");
  assert.ok(Number((await place()).split(" ")[0]) < 290);
  assert.ok((await columns()).length < 45);
  // The column with the keyboard stays when another part is looked at.
  await page.locator("#map .scroller").evaluate((node) => { node.scrollLeft = 0; });
  await cell(page, 1, 0).waitFor();
  await page.keyboard.press("Home");
  assert.equal(await place(), "0 4");
  assert.match(await page.locator("#kept").innerText(), /300 of 300 positions/);
  // Of thousands of inputs the first are shown, the others on demand; of eleven warnings all.
  const head = page.locator(".facts"), shown = await head.innerText();
  assert.match(shown, /texts\/9\.txt[\s\S]*1,990 more/);
  assert.doesNotMatch(shown, /texts\/10\.txt/);
  assert.match(shown, /warning 0[\s\S]*warning 10/);
  assert.ok((await head.boundingBox()).height < 1000);
  await head.locator("summary", { hasText: "1,990 more" }).click();
  assert.match(await head.innerText(), /texts\/10\.txt[\s\S]*texts\/1999\.txt/);
  await head.locator("summary", { hasText: "1,990 more" }).click();
  await page.emulateMedia({ media: "print" });
  assert.match(await head.innerText(), /texts\/9\.txt[\s\S]*1,990 more[\s\S]*warning 10/);
  await page.emulateMedia({ media: "screen" });
  await shot(page, "large");
});

await test("a comparison is on the same axes, by relative depth", pages.comparison, {}, async (page) => {
  const figure = page.locator("#lens figure").first();
  assert.match(await figure.locator(".plot").innerText(), /corpus · logit[\s\S]*deep · logit[\s\S]*relative depth/);
  assert.equal(await page.locator(".runs tbody tr").count(), 2);
  assert.match(await page.locator("header").innerText(), /These runs were not made alike\. They differ in input, /);
  await page.getByLabel("absolute", { exact: true }).check();
  assert.match(await figure.locator(".plot").innerText(), /12\nlayer/);
  // buckets of two vocabularies are not drawn on one axis
  const titles = await page.locator("#frequency figure").first().locator(".panel-title").allTextContents();
  assert.equal(titles.length, 4 + 2);
  assert.ok(titles.every((title) => /^(corpus|deep) · /.test(title)), titles.join());
  assert.match(await page.locator("header").innerText(), /Frequency buckets have other edges, or are of another vocabulary/);
  // a run is of the colour of its first lens, also where it has no lens
  const colours = async (title) => Object.fromEntries(await page.locator("figure").filter({ has: page.getByRole("heading", { name: title, exact: true }) }).locator(".plot svg > g").first().locator("text").evaluateAll(
    (names) => names.map((name) => [name.textContent.split(" (")[0], /\bk\d\b/.exec(name.previousElementSibling.getAttribute("class"))[0]])));
  const curves = await colours("Distance from the model's output"), bars = await colours("The tokens to be predicted");
  assert.equal(bars.deep, curves["deep · logit"]);
  assert.equal(bars.corpus, curves["corpus · logit"]);
  await shot(page, "comparison");
});

await test("at a common depth stand only layers that are there", pages.sparse, {}, async (page) => {
  const figure = page.locator("#calibration figure").filter({ hasText: "Probability of the first guesses together" });
  const titles = await figure.locator(".panel-title").allTextContents();
  assert.deepEqual(titles.map((title) => title.replace(/ \(.*/, "")), [0, 25, 50, 75, 100].map((part) => `at ${part} % of the depth`));
  assert.match(await figure.locator(".note").first().innerText(), /Without a decoded layer near it: sparse at 25 %, sparse at 50 %, sparse at 75 %\./);
});

await test("what goes by the layers that were decoded stands apart where these differ; runs and cases are told", pages.kinds, {}, async (page) => {
  const header = await page.locator("header").innerText();
  assert.match(header, /They differ in .*decoded layers/);
  assert.match(header, /Other layers were decoded in some runs/);
  const figure = (title) => page.locator("figure").filter({ has: page.getByRole("heading", { name: title, exact: true }) });
  const titles = async (title) => (await figure(title).locator(".panel-title").allTextContents()).map((text) => text.replace(/\s+/g, " "));
  assert.deepEqual(await titles("Guesses that differ from the layer before"), ["corpus, patching, facts", "few-layers"]);
  assert.match(await figure("Guesses that differ from the layer before").locator(".note").first().innerText(), /Only layers that were decoded count \(--layers\)/);
  assert.equal((await titles("Guesses that are the final ones")).length, 0);
  // A table that one run has: its curves tell whose they are.
  assert.match(await figure("Rank of the tokens of an answer").locator(".plot").innerText(), /facts/);
  assert.match(await figure("Difference to the lens logit").locator(".plot").innerText(), /corpus · tuned/);
  // n of the targets, which are fewer than the positions
  const difference = figure("Difference to the lens logit");
  const told = async () => /n = ([\d,]+) (positions|targets)/.exec(await difference.locator(".note").first().innerText());
  const [, positions, what] = await told();
  assert.equal(what, "positions");
  await difference.getByLabel("Δ cross-entropy").check();
  const [, targets, other] = await told();
  assert.equal(other, "targets");
  assert.ok(Number(targets) < Number(positions), `${targets} of ${positions}`);
  // cases are those that the tables count
  const counted = Object.fromEntries(await page.locator(".runs tbody tr").evaluateAll((rows) => rows.map((row) => [row.cells[0].textContent, row.cells[4].textContent])));
  assert.equal(counted.patching, "13 pairs");
  assert.match(counted.facts, /^\d+ answer positions$/);
  assert.equal(counted.corpus, `${positions} positions`);
});

await test("weights that differ under one name are told; long names keep their ends", pages.weights, {}, async (page) => {
  assert.match(await page.locator("header").innerText(), /They differ in weights:/);
  assert.match(await page.locator(".runs").innerText(), /aa11[\s\S]*bb22/);
  const names = await page.locator("#lens figure").first().locator(".plot svg > g").first().locator("text").allTextContents();
  for (const end of ["seed-1 · logit", "seed-1 · tuned", "seed-2 · logit", "seed-2 · tuned"]) assert.ok(names.some((name) => name.includes(end)), names.join("|"));
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 1280);
});

await test("drawn positions are no text: what is left out between them is told", pages.drawn, {}, async (page) => {
  const records = fs.readFileSync(path.join(work, "drawn", "records.jsonl"), "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line)).filter(({ document }) => document === 0);
  const wanted = records.map(({ position, token }, i) => (i > 0 && position > records[i - 1].position + 1 ? " … " : "") + token.text).join("");
  assert.ok(wanted.includes(" … "));
  assert.equal(await page.locator(".text-strip").evaluate((node) => node.textContent.replaceAll("⏎\n", "\n")), wanted);
  assert.equal(await page.locator(".text-strip").getAttribute("aria-label"), "The analysed tokens of this window");
});

await test("of a task, whatever is measured, intervals are over items and the answers that count are told", pages.exit, {}, async (page) => {
  const notes = (await page.locator("#exit figure .note").allInnerTexts()).join(" ");
  assert.match(notes, /intervals over items/);
  assert.match(notes, /Only answers count that are the model's own first guess/);
  assert.ok(!notes.includes("documents"));
});

await test("items of one name in two files are two", pages.names, {}, async (page) => {
  assert.match(await page.locator("#kept").innerText(), /of 2 items\./);
  const options = await page.locator("#window-select option").allInnerTexts();
  assert.match(options[0], /item q \(one\.jsonl\)/);
  assert.match(options[1], /item q \(two\.jsonl\)/);
});

await test("differences to the first run are drawn with their interval", pages.differences, {}, async (page) => {
  const figures = page.locator("#difference figure");
  assert.equal(await figures.count(), 2);
  assert.equal(await figures.first().locator(".band").count(), 2);
  assert.equal(await figures.first().locator("svg .axis").count(), 2);  // at 0 and below
  assert.match(await figures.first().locator(".plot").innerText(), /difference of KL\(final ‖ layer\)/);
  assert.match(await page.locator("header").innerText(), /deep cannot be compared with bounded document by document: other inputs\./);
  await shot(page, "differences");
});

await browser.close();
console.log(`${count - failures} of ${count} passed; screenshots are in ${shots}`);
process.exit(failures > 0 ? 1 : 0);
