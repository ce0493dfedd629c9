/*
 * The list of conversations: search, opening, renaming, deleting, and files.
 */

import { server } from "./api.js";
import { announce, button, find, make, saveFile, sayWhen, setChildren, visible } from "./dom.js";
import { askText, confirmDialog, openDialog } from "./dialogs.js";
import { splitFile } from "./files.js";
import { state } from "./state.js";

const PAUSE = 200; // ms after the last key
const FORMATS = [
  ["jsonl", "JSON lines: everything, to import it again", "jsonl"],
  ["oasst", "OpenAssistant trees: for training", "trees.jsonl"],
  ["markdown", "Markdown: the messages that are shown, to read", "md"],
];

export class Sidebar {
  /** actions: open(id), fresh(), report(error), changed(), during(text, work): says what takes long. */
  constructor(actions) {
    this.actions = actions;
    this.element = find("#sidebar");
    this.list = find("#conversations");
    this.query = find("#search");
    this.items = [];
    this.more = false; // whether there are others that are not listed
    this.query.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.load(), PAUSE);
    });
    this.query.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") find("#conversations button")?.focus();
    });
    this.list.addEventListener("keydown", (event) => this.key(event));
    find("#new").addEventListener("click", () => this.actions.fresh());
    find("#export").addEventListener("click", () => this.export());
    find("#import").addEventListener("click", () => find("#import-file").click());
    find("#import-file").addEventListener("change", (event) => this.import(event.target));
    for (const id of ["#open-sidebar", "#close-sidebar", "#shade"])
      find(id).addEventListener("click", () => this.toggle());
  }

  /** Open or close the list on a narrow screen. */
  toggle(open = !document.body.classList.contains("listed")) {
    document.body.classList.toggle("listed", open);
    find("#shade").hidden = !open;
    find("#open-sidebar").setAttribute("aria-expanded", String(open));
    if (open) this.query.focus();
  }

  async load() {
    try {
      const found = await server.list(this.query.value);
      this.items = found.conversations;
      this.more = found.more;
      this.render();
    } catch (error) {
      this.actions.report(error);
    }
  }

  render() {
    const rows = this.items.map((item) => {
      const current = item.id === state.conversation?.id;
      const title = visible(item.title) || "Empty chat";
      const open = button("", () => this.actions.open(item.id), {
        class: "conversation",
        "aria-current": current ? "true" : null,
      });
      open.append(
        make("span", { class: "name", text: title, dir: "auto" }),
        make("span", { class: "note", text: item.writing ? "writing …" : sayWhen(item.changed) }),
      );
      if (item.feedback) open.append(make("span", { class: "mark", text: "for training" }));
      if (item.snippet) open.append(make("span", { class: "snippet", text: visible(item.snippet), dir: "auto" }));
      const remove = button("✕", () => this.remove(item), {
        class: "quiet",
        "aria-label": `Delete the conversation ${title}`,
      });
      return make("li", { class: current ? "current" : "" }, open, remove);
    });
    setChildren(this.list, rows);
    const note = find("#list-note");
    note.hidden = rows.length > 0 && !this.more;
    note.textContent = this.describeList();
  }

  describeList() {
    const searched = this.query.value.trim();
    const count = this.items.length;
    if (this.more && searched) return `More than ${count} were found: these changed last. A longer text finds fewer.`;
    if (this.more) return `These are the ${count} that changed last. The search finds the others.`;
    return searched ? "Nothing was found." : "Your conversations are listed here.";
  }

  key(event) {
    const all = [...this.list.querySelectorAll(".conversation")];
    const at = all.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || at < 0) return;
    event.preventDefault();
    (all[at + step] ?? (step < 0 ? this.query : all[at])).focus();
  }

  async remove(item) {
    const title = visible(item.title) || "Empty chat";
    if (
      !(await confirmDialog(
        "Delete this conversation?",
        `“${title}” and its ${item.messages} messages are removed for good.`,
        "Delete",
      ))
    )
      return;
    try {
      await server.remove(item.id);
    } catch (error) {
      if (error.status !== 404) return this.actions.report(error);
    }
    announce("Conversation deleted");
    this.items = this.items.filter((each) => each.id !== item.id);
    this.render();
    if (item.id === state.conversation?.id) this.actions.fresh();
    await this.load();
  }

  async rename() {
    if (!state.conversation) return;
    const title = await askText("Rename this conversation", state.conversation.title);
    if (!title?.trim()) return;
    try {
      await server.change(state.conversation.id, { title: title.trim() });
      state.conversation.title = title.trim();
      this.actions.changed();
      await this.load();
    } catch (error) {
      this.actions.report(error);
    }
  }

  async export() {
    const only = make("input", {
      type: "checkbox",
      id: "export-only",
      checked: Boolean(state.conversation),
      disabled: !state.conversation,
    });
    const label = make("label", { class: "switch" }, only, make("span", { text: "Only the open conversation" }));
    const format = await openDialog(
      "Export conversations",
      [label],
      FORMATS.map(([name, text]) => [text, name]),
    );
    if (!format) return;
    const ending = FORMATS.find(([name]) => name === format)[2];
    try {
      const asked = server.export(format, only.checked ? state.conversation?.id : null);
      const text = await this.actions.during("The conversations are being collected …", asked);
      saveFile(`conversations-${new Date().toISOString().slice(0, 10)}.${ending}`, "text/plain;charset=utf-8", text);
      announce("Exported");
    } catch (error) {
      this.actions.report(error);
    }
  }

  /** Import files, in parts that the server accepts. */
  async import(input) {
    let added = 0;
    let known = 0;
    try {
      for (const file of input.files) {
        const parts = splitFile(await file.text());
        for (const [index, part] of parts.entries()) {
          const asked = server.import(file.name.slice(0, 200), part);
          const text = `Part ${index + 1} of ${parts.length} of ${file.name} is being imported …`;
          const found = await this.actions.during(text, asked);
          added += found.added;
          known += found.known;
        }
      }
      const more = known ? ` ${known} were here already.` : "";
      await openDialog("Import", [
        make("p", { text: `${added} conversation${added === 1 ? " was" : "s were"} imported.${more}` }),
      ]);
    } catch (error) {
      const done = added ? ` (${added} conversations were imported before.)` : "";
      await openDialog("Import", [make("p", { class: "problem", text: `${error.message}${done}` })]);
    }
    input.value = "";
    await this.load();
  }
}
