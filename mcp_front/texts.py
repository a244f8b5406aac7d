"""Every word an agent reads: instructions, tool descriptions, and what to do next.

Agents act on these texts, so tests/mcp/test_front_texts.py says what each must contain.
"""

from __future__ import annotations

REFUSAL = (
    "I can't use the image service for this: it is for illustrations, not for engineering, CAD, UX mock-ups, "
    "hardware schematics, photoreal product renders, dimensional drawings, or medical or scientific imagery."
)

BEST_SUITED = """BEST SUITED FOR: concept ideation, mood boards, stock-art-style illustrations, icons, \
whiteboard diagrams."""

RESTRICTED_USE = f"""RESTRICTED USE: do not call this tool for engineering, CAD, UX mock-ups, hardware \
schematics, photoreal product renders, dimensional drawings, medical or scientific imagery. If asked for \
one of these, answer with exactly this sentence and do not call the tool:
"{REFUSAL}\""""

RESTRICTED = f"""RESTRICTED: for every use that generate_image excludes, do not call this tool; answer with exactly \
this sentence: "{REFUSAL}\""""
"""One line for each other drawing tool: not every client shows its model more than the tool in hand."""

POLLING = (
    "HOW TO POLL: get_job_status waits up to 45 s itself; leave 5 s between calls, or as it says; when complete, call "
    "get_job_result once."
)

PREVIEW_HIDDEN = "The preview is hidden by default in some clients: always tell the user where the file is."

INSTRUCTIONS = f"""Draws and edits pictures on the user's own image service. {BEST_SUITED}
Not for engineering, CAD, UX mock-ups, hardware schematics, photoreal product renders, dimensional \
drawings, medical or scientific imagery: the tools' RESTRICTED USE block has the sentence to answer with.
generate_image and edit_image wait for the picture. For several pictures, or while doing other work, use \
submit_async_job, then get_job_status (every 5 s, not faster), then get_job_result.
{PREVIEW_HIDDEN}"""


def with_limits(model: str, limits: str) -> str:
    """The instructions for a service whose default model cannot do what a user may expect."""
    return f"{INSTRUCTIONS}\nThe service's model is {model}. {limits} Tell the user so before you draw anything else."


_LONG_WORK = (
    "LONG WORK: loading the model can take minutes. A late picture becomes a job id and goes on: do not ask for it "
    "again."
)

GENERATE_IMAGE = f"""Draw a picture from words, wait for it, save it in full resolution.

{BEST_SUITED}

{RESTRICTED_USE}

Give only the prompt unless the user asks for more: the model's own defaults are best. Put text for the picture \
into the prompt, in quotes.
RESULT: preview, saved path (or download command), URL and when it expires, image id. {PREVIEW_HIDDEN}
{_LONG_WORK}
{POLLING}"""

EDIT_IMAGE = f"""Change a picture, or combine pictures, as words say; wait for it and save it.

{RESTRICTED}

`images`, `mask`: image ids of earlier results, or paths of local files where this server runs on the user's machine; \
never base64 or a data URL. Other parameters as in generate_image.
RESULT: as of generate_image, with the new image id; the URL expires. {PREVIEW_HIDDEN}
{_LONG_WORK}
{POLLING}"""

SUBMIT_ASYNC_JOB = f"""The same as generate_image, or with `images` as edit_image, with wait=false: return a job id at \
once, to go on with other work. Takes all parameters of generate_image that draw.

{RESTRICTED}

{POLLING}"""

GET_JOB_STATUS = """Say how far a job is: place in the queue, loading, step, time left. Waits up to 45 s for news; \
leave 5 s between two calls, or longer where it says so. A complete job's picture is fetched with get_job_result."""

GET_JOB_RESULT = f"""Fetch the picture of a complete job and save it in full resolution, as often as you like until \
it expires. RESULT: as of generate_image. {PREVIEW_HIDDEN}"""

CANCEL_JOB = "Stop a job that the user no longer wants. One that has ended is left as it is."

LIST_TEMPLATES = """List prompt templates. Fill the placeholders with what the user wants, then pass the prompt and \
its size to generate_image. Templates are never applied by themselves."""

LIST_MODELS = "List the models: what each is good at, its sizes and limits, its speed here, and whether it fits."

LIST_IMAGES = "List recent pictures, or only kept ones, with their ids, the newest first."

UPSCALE_IMAGE = "Make a larger copy of a picture, wait for it and save it. RESULT: as of generate_image."

KEEP_IMAGE = "Keep a picture that the user likes: it no longer expires on the service."

READ_IMAGE_CHUNK = "For the picture view only: a part of a picture's PNG, as base64."

READ_JOB = "For the picture view only: a running job and its preview."

VARY_IMAGE = "For the picture view only: draw more like it."

UPLOAD_MASK = "For the picture view only: store a painted mask."


NEXT_STEP_ASK = (
    "Tell the user this and ask whether to go on. Only if they want it, call the tool again with anyway=true; or "
    "change the prompt, or pass another model of list_models."
)


NEXT_STEP_TOLD = "Tell the user so. There is nothing more to do."


def next_step_done(saved: bool, several: bool = False) -> str:
    """What an agent does with finished pictures; several: the user has a choice."""
    where = "where the file was saved" if saved else "the download command"
    told = f"Always tell the user {where}: the preview is hidden by default in some clients."
    if several:
        told += " Ask by its number which picture the user wants; edit_image, upscale_image and keep_image take its id."
    return told


def next_step_waiting(job_id: str, every_s: int = 5) -> str:
    """What an agent does with a job that goes on; every_s: seconds between two calls."""
    return (
        f'Call get_job_status(job_id="{job_id}") every {every_s} s, not faster; it waits up to 45 s by itself. When '
        f'it says complete, call get_job_result(job_id="{job_id}"). Do not ask for the same picture again.'
    )


def next_step_complete(job_id: str) -> str:
    """What an agent does with a job whose picture is ready to be fetched."""
    return f'Call get_job_result(job_id="{job_id}") to get the picture, then tell the user where the file is.'


def template_message(prompt: str, size: str) -> str:
    """What a person says by choosing a template."""
    return f"Draw this with the tool generate_image{size}, then tell me where the file is:\n\n{prompt}"
