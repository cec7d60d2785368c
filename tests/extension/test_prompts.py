"""The questions of a login, and the program that ssh runs for each."""

from __future__ import annotations

import asyncio
import os

import pytest

from jupyter_remote_gpu.clusters.prompts import PromptKind, Prompts
from remote_gpu.errors import UnknownPrompt


async def ask(environment: dict[str, str], *words: str, hint: str = "") -> asyncio.subprocess.Process:
    env = {**os.environ, **environment, **({"SSH_ASKPASS_PROMPT": hint} if hint else {})}
    return await asyncio.create_subprocess_exec(environment["SSH_ASKPASS"], *words, env=env, stdout=asyncio.subprocess.PIPE)


async def waiting(prompts: Prompts):
    async with asyncio.timeout(10):
        while not prompts.all():
            await asyncio.sleep(0.01)
    return prompts.all()[0]


async def test_a_question_waits_and_its_answer_goes_to_who_asked(places):
    prompts, changes = Prompts(), []
    prompts.changed = changes.append
    async with prompts.of("box") as environment:
        process = await ask(environment, "alice@box's password: ")
        prompt = await waiting(prompts)
        assert (prompt.host, prompt.text, prompt.kind) == ("box", "alice@box's password:", PromptKind.SECRET)
        prompts.answer(prompt.id, "open sesame")
        out, _ = await process.communicate()
        assert (out, process.returncode) == (b"open sesame\n", 0)
        with pytest.raises(UnknownPrompt):
            prompts.answer(prompt.id, "again")
    assert changes == ["box", "box"]
    await prompts.aclose()


@pytest.mark.parametrize(
    ("text", "hint", "kind"),
    [
        ("Are you sure you want to continue connecting (yes/no/[fingerprint])? ", "", PromptKind.CONFIRM),
        ("Confirm user presence for key ED25519-SK", "none", PromptKind.NOTICE),
        ("Allow use of key?", "confirm", PromptKind.CONFIRM),
        ("Please type 'yes', 'no' or the fingerprint: ", "", PromptKind.CONFIRM),
        ("Passcode or option (1-2): ", "", PromptKind.SECRET),
    ],
)
async def test_the_kind_of_a_question_says_how_to_show_it(places, text, hint, kind):
    prompts = Prompts()
    async with prompts.of("box") as environment:
        process = await ask(environment, text, hint=hint)
        assert (await waiting(prompts)).kind is kind
    assert await process.wait() == 1, "a question that is open when its login ends is refused"
    await prompts.aclose()


async def test_a_question_that_nobody_answers_is_refused_and_one_whose_asker_is_gone_vanishes(places):
    prompts = Prompts(patience=0.2)
    async with prompts.of("box") as environment:
        process = await ask(environment, "Password:")
        assert await process.wait() == 1
        assert not prompts.all()
    patient = Prompts()
    async with patient.of("box") as environment:
        process = await ask(environment, "Password:")
        await waiting(patient)
        process.kill()
        async with asyncio.timeout(5):
            while patient.all():
                await asyncio.sleep(0.01)
        await process.wait()
    await prompts.aclose()
    await patient.aclose()


async def test_who_does_not_know_the_logins_key_cannot_ask(places):
    prompts = Prompts()
    async with prompts.of("box") as environment:
        _, path = environment["JRG_ASKPASS"].split(" ")
        process = await ask({**environment, "JRG_ASKPASS": f"wrong {path}"}, "Password:")
        assert await process.wait() == 1
        assert not prompts.all()
        assert os.stat(path).st_mode & 0o777 == 0o600
    await prompts.aclose()
