"""APIs that have a dialect of their own here, declared instead: what `kind = "http"` can say."""

from pathlib import Path
from typing import Final

from relay.cli.build import build_upstream
from relay.clock import Clock
from relay.config import load
from relay.upstreams import Declared

__all__ = ["DECLARATIONS", "declared"]

_RUNWAY: Final = """
headers = { X-Runway-Version = "2024-11-06" }
states = { THROTTLED = "queued" }

[upstreams.submit]
path = "v1/text_to_video"
id = "id"

[upstreams.poll]
path = "v1/tasks/{task}"
status = "status"
progress = "progress"
scale = 1
urls = "output"
error = "failure"
code = "failureCode"

[upstreams.cancel]
method = "DELETE"
path = "v1/tasks/{task}"
"""

_LUMA: Final = """
states = { dreaming = "running" }

[upstreams.submit]
path = "generations/video"
id = "id"

[upstreams.poll]
path = "generations/{task}"
status = "state"
urls = "assets.[video, image]"
error = "failure_reason"
"""

_REPLICATE: Final = """
[upstreams.submit]
path = "v1/models/{+input.model}/predictions"
body = { input = { prompt = "{input.prompt}" } }
id = "id"

[upstreams.poll]
path = "v1/predictions/{task}"
status = "status"
progress = "logs"
scale = 100
log = "logs"
urls = "output"
error = "error"

[upstreams.cancel]
path = "v1/predictions/{task}/cancel"
"""

_OPENAI_VIDEOS: Final = """
[upstreams.submit]
path = "videos"
id = "id"

[upstreams.poll]
path = "videos/{task}"
status = "status"
progress = "progress"
scale = 100
content = "videos/{task}/content"
expires = "expires_at"
error = "error.message"
code = "error.code"
"""

_NEW_API: Final = """
codes = { task_not_exist = "not-found" }

[upstreams.submit]
path = "video/generations"
id = "task_id"

[upstreams.poll]
path = "video/generations/{task}"
answers = [400]
status = "data.status"
progress = "data.progress"
scale = 100
urls = "data.[result_url, url]"
error = "data.fail_reason || (code != 'success' && message)"
code = "code != 'success' && code"
"""

_SORA: Final = """
states = { sora_draft = "succeeded", sora_error = "failed", sora_content_violation = "failed" }

[upstreams.submit]
path = "nf/create"
id = "id"

[upstreams.submit.body]
kind = "video"
prompt = "{input.prompt}"
orientation = "landscape"
size = "small"
n_frames = 300
model = "sy_8"
inpaint_items = []

[upstreams.poll]
path = "nf/pending/v2"
items = "@"
id = "id"
status = "status"
progress = "progress_pct"
scale = 1
queue_position = "progress_pos_in_queue"
eta = "estimated_queue_wait_time"
error = "failure_reason"

[upstreams.result]
path = "project_y/profile/drafts/v2"
query = { limit = 15 }
items = "items"
id = "task_id"
status = "kind"
urls = "downloadable_url || url"
error = "reason_str || error_reason"
"""

_MINIMAX: Final = """
codes = { 1002 = "rate-limit", 1004 = "auth", 1026 = "policy", 1027 = "policy", 2013 = "not-found" }

[upstreams.submit]
path = "v1/video_generation"
id = "task_id"
error = "base_resp.status_code != `0` && base_resp.status_msg"

[upstreams.poll]
path = "v1/query/video_generation"
query = { task_id = "{task}" }
status = "status"
error = "base_resp.status_code != `0` && base_resp.status_msg"
code = "base_resp.status_code"

[upstreams.result]
path = "v1/files/retrieve"
query = { file_id = "{ref}" }
ref = "file_id"
urls = "file.download_url"
error = "base_resp.status_code != `0` && base_resp.status_msg"
code = "base_resp.status_code"
"""

_FAL: Final = """
auth_scheme = "Key"

[upstreams.submit]
path = "scripted/video"
id = "request_id"

[upstreams.poll]
path = "scripted/video/requests/{task}/status"
query = { logs = 1 }
status = "status"
queue_position = "queue_position"
log = "logs[].message"
error = "error"
code = "error_type"

[upstreams.result]
path = "scripted/video/requests/{task}"
urls = "*.url"
result = "@"
answers = [422]
error = "detail[0].msg"
code = "detail[0].type"

[upstreams.cancel]
method = "PUT"
path = "scripted/video/requests/{task}/cancel"
"""

# One route of several, and a token that is fixed: the API itself takes tokens that are signed anew.
_KLING: Final = """
[upstreams.codes]
1004 = "auth"
1203 = "not-found"
1302 = "rate-limit"
1303 = "rate-limit"
5000 = "server"
5001 = "server"
5002 = "server"
risk = "policy"

[upstreams.submit]
path = "v1/videos/text2video"
id = "data.task_id"
error = "code != `0` && message"

[upstreams.poll]
path = "v1/videos/text2video/{task}"
status = "data.task_status"
urls = "data.task_result.videos[].url"
error = "data.task_status_msg || (code != `0` && message)"
code = "(contains(to_string(data.task_status_msg), 'risk control') && 'risk') || (code != `0` && code)"
"""

_VEO: Final = """
auth_header = "x-goog-api-key"
auth_scheme = ""
states = { true = "succeeded", false = "running" }
codes = { 4 = "timeout", 5 = "not-found", 7 = "auth", 8 = "rate-limit", 16 = "auth", filtered = "policy" }

[upstreams.submit]
path = "models/{input.model}:predictLongRunning"
body = { instances = [{ prompt = "{input.prompt}" }] }
id = "name"

[upstreams.poll]
path = "{+task}"
status = "done || name && 'false'"
urls = "response.generateVideoResponse.generatedSamples[].video.uri"
error = "error.message || (response.generateVideoResponse | (!generatedSamples && raiMediaFilteredReasons[0]))"
code = "error.code || (response.generateVideoResponse | (!generatedSamples && raiMediaFilteredCount && 'filtered'))"
"""

DECLARATIONS: Final = {
    "runway": _RUNWAY,
    "luma": _LUMA,
    "replicate": _REPLICATE,
    "openai-videos": _OPENAI_VIDEOS,
    "new-api": _NEW_API,
    "sora": _SORA,
    "minimax": _MINIMAX,
    "fal": _FAL,
    "kling": _KLING,
    "veo": _VEO,
}
"""The keys of `[[upstreams]]` beside kind, base_url and token, by the dialect that they declare."""


def declared(keys: str, base_url: str, token: str, folder: Path, clock: Clock) -> Declared:
    """The adapter that a relay.toml with *keys* makes."""
    path = folder / "relay.toml"
    path.write_text(f'[[upstreams]]\nkind = "http"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\n{keys}')
    (settings,) = load(path, {"TOKEN": token}).upstreams
    upstream = build_upstream(settings, clock)
    assert isinstance(upstream, Declared)
    return upstream
