// Puts the page together.

/** The name of the file of records in the run folder. */
function recordsName() {
  return RUNS[0].run.settings?.records === "jsonl.zst" ? "records.jsonl.zst" : "records.jsonl";
}

function noRecordsNote() {
  const { counts = {}, lenses } = RUNS[0].run;
  if (COMPARING || !(counts.records > 0)) return null;
  if (objectsOf(lenses).length === 0) return el("p", { class: "note", text: `The page shows means over pairs; ${recordsName()} in the run folder has each pair by layer and token.` });
  if (DATA.records_beyond) {
    const { max_bytes: most, bytes } = DATA.records_beyond, megabytes = (size) => formatNumber(Number((size / 1e6).toPrecision(3))) + " MB";
    return el("p", { class: "notice", text: `The page shows tables only, which take ${megabytes(bytes)}: beside them no record of ${recordsName()} finds a place below ${megabytes(most)}. “depthlens report RUN --max-size ${Math.ceil((bytes + 2 * most) / 1e6)}MB” has room for some.` });
  }
  return el("p", { class: "notice", text: `${recordsName()} was not in the run folder: the page shows tables only.` });
}

function start() {
  theme.start();
  const sections = [recordSection(DATA.records), ...tableSections()].filter(Boolean);
  const contents = el("nav", { class: "contents", "aria-label": "Contents" },
    el("ul", {}, sections.map(({ id, title }) => el("li", {}, el("a", { href: "#" + id, text: title })))));
  document.getElementById("page").append(pageHeader(), DATA.records ? "" : noRecordsNote() ?? "", contents,
    el("main", {}, sections.length > 0 ? sections.map(({ node }) => node) : el("p", { class: "notice", text: "The run has no tables and no records." })),
    el("footer", { text: `Made by depthlens from ${DATA.records ? `run.json, summary.json and ${recordsName()}` : "run.json and summary.json"}. Numbers of tables are rounded to six digits; tables/*.csv in the run folder have them all.` }));
  redrawAll();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    redrawAll();
  });
  ignorePointerAtRest();
  addEventListener("scroll", () => tooltip.place(), { capture: true, passive: true });
}

start();
