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
  return RUNS.flatMap((run) => (tableOf(run, name) ? rowsOfTable(run, tableOf(run, name)) : []));
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

class PackedRecord {
  /** `window`: index of the window in the page. */
  constructor(records, window, [position, token, target, final, packed]) {
    const textAt = (index) => (index === null ? null : { id: records.ids[index], text: records.texts[index] });
    this.records = records;
    this.window = window;
    this.position = position;
    this.token = textAt(token);
    this.target = textAt(target);
    this.final = textAt(final);
    this.packed = packed;
    this.readouts = new Map();
  }
  number(index) {
    const digit = (place) => DIGIT_OF.get(this.packed[3 * index + place]);
    const number = (digit(0) * BASE + digit(1)) * BASE + digit(2);
    return number === NONE ? null : number;
  }
  /** What lens number `lens` reads at `layer`. */
  at(lens, layer) {
    const { rows, predictions, ids, texts } = this.records;
    const begin = (lens * rows + layer) * (2 * predictions + 4);
    const known = this.readouts.get(begin);
    if (known) return known;
    const nats = (index) => { const number = this.number(index); return number === null ? null : number / 1000; };
    const top = [];
    for (let k = 0; k < predictions; ++k) {
      const token = this.number(begin + 2 * k), negative = nats(begin + 2 * k + 1);
      top.push({ id: ids[token], text: texts[token], probability: negative === null ? null : Math.exp(-negative) });
    }
    const end = begin + 2 * predictions;
    const readout = { top, finalRank: this.number(end), targetRank: this.number(end + 1), entropy: nats(end + 2), kl: nats(end + 3) };
    this.readouts.set(begin, readout);
    return readout;
  }
}
