"""What people do on the chat page, each as one journey through a new window of a real browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser

from tests.campaigns.chat_window import Journey, chat_window, expect
from tests.campaigns.server_process import ChatServer

LONG = 1500  # tokens: some seconds


def empty_state(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        expect("Talk to" in window.page.inner_text("#empty"), "an empty page does not say what to do")
        window.page.click(".example >> nth=1")
        expect(window.page.input_value("#text") != "", "an example is not written into the form")


def send_and_list(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("What is a heron?")
        expect(window.body(), "the reply is empty")
        window.until("document.title.startsWith('What is a heron?')")
        window.page.wait_for_selector("#conversations li.current >> text=What is a heron?")
        expect("tokens" in window.reply().locator(".speed").inner_text(), "tokens and speed are not shown")


def lines_and_enter(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.page.fill("#text", "one")
        window.page.press("#text", "Shift+Enter")
        window.page.keyboard.type("two")
        window.page.press("#text", "Enter")
        window.page.wait_for_selector(".message.user")
        expect(window.page.inner_text(".message.user .body") == "one\ntwo", "lines of a message are lost")


def stop_by_button(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.limit(LONG)
        window.send("Stop this", wait=False)
        window.writing()
        window.page.click("#stop")
        window.ended()
        expect("You stopped this reply" in window.reply().inner_text(), "a stopped reply does not say so")
        expect(len(window.body()) > 10, "the text of a stopped reply is lost")


def stop_by_key_and_continue(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.limit(LONG)
        window.send("Stop this too", wait=False)
        window.writing()
        window.page.keyboard.press("Escape")
        window.ended()
        before = window.reply().locator(".body").text_content() or ""
        window.limit(20)
        window.tool("Continue").click()
        window.until("!document.querySelector('.message.assistant .notes').textContent.includes('You stopped')")
        window.ended()
        after = window.reply().locator(".body").text_content() or ""
        expect(len(after) > len(before), "nothing was written behind the reply")


def edit_message(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("First question")
        window.page.hover(".message.user")
        window.page.locator(".message.user .tools button", has_text="Edit").click()
        window.page.fill("textarea.edit", "Better question")
        window.page.press("textarea.edit", "Enter")
        window.page.wait_for_selector(".message.user >> text=Better question")
        window.ended()
        expect(window.page.inner_text(".message.user .branches span") == "2/2", "an edited message is no version")
        window.page.click(".message.user [aria-label='Previous version']")
        window.page.wait_for_selector(".message.user >> text=First question")


def edit_reply(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("Say something")
        window.tool("Edit").click()
        window.page.fill("textarea.edit", "My **better** words")
        window.page.keyboard.press("Control+Enter")
        window.page.wait_for_selector(".message.assistant strong >> text=better")
        expect("Edited by you" in window.reply().inner_text(), "an edited reply does not say so")
        window.page.reload()
        window.ready()
        window.page.wait_for_selector(".message.assistant strong >> text=better")


def retry_and_versions(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("Say it again")
        first = window.body()
        window.tool("Retry").click()
        window.page.wait_for_selector(".branches >> text=2/2")
        window.ended()
        expect(window.body() != first, "a retry gives the same reply")
        window.reply().focus()
        window.page.keyboard.press("ArrowLeft")
        window.page.wait_for_selector(".branches >> text=1/2")
        expect(window.body() == first, "the first version is lost")


def choose_a_draft(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.page.select_option("#drafts", "2")
        window.send("Two, please")
        expect(window.page.locator(".drafts .message").count() == 2, "drafts are not side by side")
        boxes = [window.reply(number).bounding_box() or {} for number in (0, 1)]
        expect(abs(boxes[0]["y"] - boxes[1]["y"]) < 5, "drafts are not side by side")
        second = window.body(1)
        window.page.click(".choose >> nth=1")
        window.until("!document.querySelector('.drafts')")
        expect(window.body() == second, "another draft than the chosen one is shown")
        window.page.wait_for_selector(".branches >> text=2/2")


def choose_by_key(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.page.select_option("#drafts", "3")
        window.send("Three, please")
        window.page.keyboard.press("Alt+ArrowUp")
        window.page.keyboard.press("Alt+ArrowUp")
        window.page.keyboard.press("Enter")
        window.until("!document.querySelector('.drafts')")
        window.page.wait_for_selector(".branches >> text=2/3")


def two_models(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.page.select_option("#second", "chat")
        window.send("Who is better?")
        names = window.page.locator(".drafts .who").all_inner_texts()
        expect(names == ["plain", "chat"], f"two models are {names}")
        window.page.select_option("#model", "chat")
        others = window.page.locator("#second option").all_inner_texts()
        expect("chat" not in others and "plain" in others, f"chat can be compared with {others}")
        expect(window.page.input_value("#second") == "", "a model is compared with itself")


def blind(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.page.select_option("#second", "chat")
        window.page.click("#settings-toggle")
        window.page.locator("#settings .switch input").check()
        window.send("Who wrote this?")
        names = window.page.locator(".drafts .who").all_inner_texts()
        expect(names == ["Reply 1", "Reply 2"], f"names are shown: {names}")
        window.page.click(".choose >> nth=0")
        window.until("!document.querySelector('.drafts')")
        expect(window.page.inner_text(".message.assistant .who") in ("plain", "chat"), "the name is not revealed")


def switch_model(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("To the first")
        window.page.select_option("#model", "chat")
        window.send("To the second")
        expect(window.page.locator(".message.assistant .who").all_inner_texts() == ["plain", "chat"], "the model")


def presets_and_sliders(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        names = window.page.locator("#preset option").all_inner_texts()
        wanted = {"k50", "k50-Precise", "k50-Creative", "nucleus9", "typical2", "typical3", "greedy"}
        expect(wanted <= set(names), f"presets are {names}")
        window.page.select_option("#preset", "nucleus9")
        window.page.click("#settings-toggle")
        expect(window.page.input_value("#set-top_p") == "0.9", "a preset does not move the sliders")
        window.page.locator("#set-top_k").fill("7")
        window.page.locator("#set-max_new_tokens").fill("12")
        window.page.keyboard.press("Escape")
        window.send("With these settings")
        shown = window.reply().locator(".speed").get_attribute("title") or ""
        expect(all(part in shown for part in ("top_p=0.9", "top_k=7", "max_new_tokens=12")), f"settings are {shown}")


def temperature_zero(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.page.click("#settings-toggle")
        window.page.locator("#set-temperature").fill("0")
        window.page.keyboard.press("Escape")
        window.send("Greedy")
        first = window.body()
        window.tool("Retry").click()
        window.page.wait_for_selector(".branches >> text=2/2")
        window.ended()
        expect(window.body() == first, "temperature 0 is not greedy")


def vote_and_comment(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("Judge me")
        for name, pressed in (("Good", "true"), ("Good", "false"), ("Bad", "true")):
            window.tool(name).click()
            window.page.wait_for_selector(f".message.assistant .tools button[aria-pressed={pressed}] >> text={name}")
        window.tool("Comment").click()
        window.page.fill("dialog textarea", "Too random")
        window.page.click("dialog >> text=Save")
        window.page.wait_for_selector(".notes >> text=Too random")


def delete_message_and_conversation(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("Remove what follows")
        window.tool("Delete").click()
        window.page.click("dialog >> text=Cancel")
        expect(window.page.locator(".message").count() == 2, "Cancel deletes")
        window.tool("Delete").click()
        window.page.click("dialog .danger")
        window.until("document.querySelectorAll('.message').length === 1")
        window.page.wait_for_selector("#conversations li.current")
        window.page.click("#conversations li.current [aria-label^='Delete']")
        window.page.click("dialog .danger")
        window.page.wait_for_selector("#empty h2")
        expect(window.page.locator("#conversations >> text=Remove what follows").count() == 0, "it is still listed")


def rename_and_search(browser: Browser, server: ChatServer, root: Path) -> None:
    with chat_window(browser, server) as window:
        window.open()
        window.send("A question about ZEBRAS")
        window.page.click("#rename")
        window.page.fill("dialog input", "Striped animals")
        window.page.keyboard.press("Enter")
        window.page.wait_for_selector("#conversations >> text=Striped animals")
        window.page.fill("#search", "zebras")
        window.page.wait_for_selector("#conversations .snippet >> text=ZEBRAS")
        expect(window.page.locator("#conversations li").count() == 1, "a search finds others")
        window.page.fill("#search", "nothing of the kind")
        window.page.wait_for_selector("#list-note >> text=Nothing was found")


JOURNEYS: tuple[Journey, ...] = (
    *(empty_state, send_and_list, lines_and_enter, stop_by_button, stop_by_key_and_continue, edit_message, edit_reply),
    *(retry_and_versions, choose_a_draft, choose_by_key, two_models, blind, switch_model, presets_and_sliders),
    *(temperature_zero, vote_and_comment, delete_message_and_conversation, rename_and_search),
)
