"""LangChain draws through the service, by its wrapper and by its tool for agents, and prints how the pictures begin.

Usage: langchain_draw.py URL TOKEN
"""

import base64
import json
import sys

import httpx
from langchain_community.tools.openai_dalle_image_generation import OpenAIDALLEImageGenerationTool
from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

url, token = sys.argv[1:3]
wrapper = DallEAPIWrapper(api_key=token, base_url=f"{url}/v1", model="dall-e-3", quality="hd")
addresses = [wrapper.run("a red circle"), OpenAIDALLEImageGenerationTool(api_wrapper=wrapper).invoke("a red circle")]
files = [httpx.get(address, trust_env=False).content for address in addresses]
print(json.dumps([base64.b64encode(file).decode()[:8] for file in files]))
