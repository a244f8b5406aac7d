"""A process that keeps, releases and deletes pictures of a state folder, and says each change once it is done.

`python keeping_process.py FOLDER SEED`: makes pictures, then prints `made IDS…`, and `keep ID`, `release ID` or
`delete ID` after each change, until it is killed.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from state_folder import opened

PICTURES = 60


async def main(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with opened(folder, max_kept=PICTURES) as state:
        left = [image.id for _ in range(PICTURES // 4) for image in (await state.drawn(n=4)).images]
        print("made", *left, flush=True)
        while left:
            image_id = chance.choice(left)
            match chance.choice(("keep", "keep", "release", "delete")) if len(left) > 5 else "keep":
                case "keep":
                    await state.keeper.keep(image_id, {"board": "Cups", "note": image_id})
                    print("keep", image_id, flush=True)
                case "release":
                    await state.keeper.release(image_id)
                    print("release", image_id, flush=True)
                case "delete":
                    await state.keeper.delete(image_id)
                    left.remove(image_id)
                    print("delete", image_id, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
