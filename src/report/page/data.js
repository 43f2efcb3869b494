// The data of the page: runs with their tables, and records that are packed into few characters.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = DATA.runs;
const COMPARING = RUNS.length > 1 || RUNS[0].name !== undefined;
const SAME_DEPTH = RUNS.every((run) => run.run.model.layers === RUNS[0].run.model.layers);

/** The table of a run; undefined where it has none. Names come from files: "constructor" is one like any other. */
function tableOf(run, name) {
  return Object.hasOwn(run.tables, name) ? run.tables[name] : undefined;
}

/** Rows of a run's table as objects; `run` tells which run, and `L` its number of blocks. */
function rowsOfTable(run, table) {
  return table.rows.map((cells) => {
    const row = Object.fromEntries(table.columns.map((column, i) => [column, cells[i]]));
    if (COMPARING) row.run = run.name;
    Object.defineProperty(row, "L", { value: run.run.model.layers });
    return row;
  });
}
/** The same of all runs that have a table of that name. */
function rowsOf(name) {
  const rows = RUNS.flatMap((run) => (tableOf(run, name) ? rowsOfTable(run, tableOf(run, name)) : []));
  if (COMPARING && name.startsWith("watch.")) tellWatchedApart(rows);
  return rows;
}

/** The ids of a run's watched tokens, or pairs of them, by their names. */
function watchedIds(run, column) {
  const tokens = objectsOf(run.settings?.watch).map(({ text, id }) => [text, Number.isInteger(id) ? `#${id}` : text]);
  if (column === "token") return new Map(tokens);
  const pairs = run.settings?.watch_pair_tokens ?? [];
  return new Map((run.settings?.watch_pairs ?? []).map((name, i) => [name, (pairs[i] ?? []).map((token) => tokens[token]?.[1]).join(", ")]));
}
/** A name that is that of other tokens in a run of the same tokenizer gets their ids. */
function tellWatchedApart(rows) {
  for (const column of ["token", "pair"]) {
    const known = RUNS.map(({ name, run }) => ({ name, tokenizer: run.tokenizer?.digest ?? null, ids: watchedIds(run, column) }));
    const isTwofold = (watched) => known.some((a) => known.some((b) => a.tokenizer === b.tokenizer && a.ids.has(watched) && b.ids.has(watched) && a.ids.get(watched) !== b.ids.get(watched)));
    const twofold = new Set(valuesOf(rows, column).filter((watched) => watched !== null && isTwofold(watched)));
    for (const row of rows) {
      if (twofold.has(row[column])) row[column] = `${row[column]} (${known.find(({ name }) => name === row.run).ids.get(row[column])})`;
    }
  }
}
function columnsOf(name) {
  const tables = RUNS.map((run) => tableOf(run, name)).filter(Boolean);
  const columns = [...new Set(tables.flatMap((table) => table.columns))];
  return COMPARING ? ["run", ...columns] : columns;
}
function unitsOf(name) {
  return Object.assign(Object.create(null), ...RUNS.map((run) => tableOf(run, name)?.units ?? {}));
}
const TABLE_NAMES = [...new Set(RUNS.flatMap((run) => Object.keys(run.tables)))].sort();

/** Different values of a column, in order of appearance. */
function valuesOf(rows, column) {
  return [...new Set(rows.map((row) => row[column] ?? null))];
}

// Written by src/report/page_records.cpp, which says what is packed.
const DIGITS = "!#$%'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~";
const BASE = DIGITS.length;
const NONE = BASE ** 3 - 1;
const DIGIT_OF = new Map(Array.from(DIGITS, (digit, value) => [digit, value]));

/** The layer that a row of the records is: with --layers some are left out. */
function layerOf(row) {
  return RUNS[0].run.settings?.layers?.[row] ?? row;
}

/** Whether records have a field: with --record-fields some are left out. */
function hasField(name) {
  const fields = RUNS[0].run.settings?.record_fields;
  return !Array.isArray(fields) || fields.includes(name);
}

/** What a lens reads at a layer of a record; unpacked when it is asked for. */
class Readout {
  constructor(record, begin) {
    this.record = record;
    this.begin = begin;
    this.end = begin + 2 * record.records.predictions;
  }
  nats(index) {
    const number = this.record.number(index);
    return number === null ? null : number / 1000;
  }
  probabilityAt(index) {
    const negative = this.nats(index);
    return negative === null ? null : Math.exp(-negative);
  }
  /** Null where the records have no predictions. */
  guess(k) {
    if (k >= this.record.records.predictions) return null;
    const { ids, texts } = this.record.records, token = this.record.number(this.begin + 2 * k);
    return { id: ids[token], text: texts[token], probability: this.probabilityAt(this.begin + 2 * k + 1) };
  }
  get top() { return Array.from({ length: this.record.records.predictions }, (_, k) => this.guess(k)); }
  get finalRank() { return this.record.number(this.end); }
  get targetRank() { return this.record.number(this.end + 1); }
  get entropy() { return this.nats(this.end + 2); }
  get kl() { return this.nats(this.end + 3); }
  /** Of option or watched token number `w`. */
  watched(w) {
    const index = this.end + 4 + 2 * w;
    return { rank: this.record.number(index), probability: this.probabilityAt(index + 1) };
  }
}

class PackedRecord {
  /** `index`: that of the window in the page, whose records have `numWatched` options and watched tokens. */
  constructor(records, index, numWatched, [position, token, target, final, packed, answerPosition]) {
    const textAt = (index) => (index === null ? null : { id: records.ids[index], text: records.texts[index] });
    this.records = records;
    this.window = index;
    this.position = position;
    this.answerPosition = answerPosition ?? null;
    this.token = textAt(token);
    this.target = textAt(target);
    this.final = textAt(final);
    this.packed = packed;
    this.stride = 2 * records.predictions + 4 + 2 * numWatched;
  }
  number(index) {
    const digit = (place) => DIGIT_OF.get(this.packed[3 * index + place]);
    const number = (digit(0) * BASE + digit(1)) * BASE + digit(2);
    return number === NONE ? null : number;
  }
  /** What lens number `lens` reads at the layer of a row. */
  at(lens, row) {
    return new Readout(this, (lens * this.records.rows + row) * this.stride);
  }
}

/** The options and watched tokens of a window's records, in the order in which they are packed. */
function watchedNames(window) {
  return [...(window.options ?? []).map((text) => `option ${plain(text)}`), ...(window.watched ?? []).map(visible)];
}
