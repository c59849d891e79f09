"""One of several processes that fetch at once: `slot_user.py URL COUNT`.

Says when it is ready, waits for a line, then fetches `COUNT` times, as many at once as it may.
"""

import asyncio
import sys

from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.wiring.deployment import open_deployment


async def main(url, count):
    deployment = open_deployment(load_settings())
    fetcher = deployment.open_fetcher()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    try:
        await asyncio.gather(*(fetcher.fetch(f"{url}?{number}") for number in range(count)))
    finally:
        await fetcher.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
