"""The queue client against a server that answers as ComfyUI does, and the graph that it sends."""

import http.server
import json
import threading

import pytest

from lumina_next.demo import GRAPH, client

PICTURE = {"filename": "a b.png", "subfolder": "", "type": "output"}


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers from `server.answers`, by path; a list is used up one answer per request."""

    def respond(self):
        answers = self.server.answers[self.path]
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    def do_GET(self):
        self.respond()

    def do_POST(self):
        self.server.received = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.respond()

    def log_message(self, *parts):
        pass


@pytest.fixture
def comfyui(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def history(messages, outputs=None):
    return {"7": {"status": {"messages": messages}, "outputs": outputs or {}}}


def test_queued_graph_arrives_and_its_id_returns(comfyui):
    comfyui.answers = {"/prompt": [(200, {"prompt_id": "7"})]}
    assert client.queue(comfyui.url, {"1": {}}, "me") == "7"
    assert comfyui.received == {"prompt": {"1": {}}, "client_id": "me"}


def test_refused_graph_says_why(comfyui):
    comfyui.answers = {"/prompt": [(400, {"node_errors": "Value not in list: steps"})]}
    with pytest.raises(ValueError, match="refused the graph.*Value not in list: steps"):
        client.queue(comfyui.url, {})


def test_wait_returns_the_pictures_of_all_nodes(comfyui):
    outputs = {"1": {"images": [PICTURE]}, "2": {"text": ["no picture"]}}
    done = history([["execution_success", {}]], outputs)
    comfyui.answers = {"/history/7": [(200, {}), (200, done)]}
    assert client.wait(comfyui.url, "7") == [PICTURE]


def test_failed_node_is_named(comfyui):
    details = {"node_type": "KSampler", "exception_message": "out of memory"}
    comfyui.answers = {"/history/7": [(200, history([["execution_error", details]]))]}
    with pytest.raises(RuntimeError, match="KSampler: out of memory"):
        client.wait(comfyui.url, "7")


def test_interrupted_run_says_so(comfyui):
    comfyui.answers = {"/history/7": [(200, history([["execution_interrupted", {}]]))]}
    with pytest.raises(RuntimeError, match="was interrupted"):
        client.wait(comfyui.url, "7")


def test_download_asks_for_the_file_by_its_name(comfyui):
    comfyui.answers = {"/view?filename=a+b.png&subfolder=&type=output": [(200, b"PNG")]}
    assert client.download(comfyui.url, PICTURE) == b"PNG"


def test_nodes_of_the_graph_are_numbered_and_found_by_their_titles():
    graph = json.loads(GRAPH.read_text("utf-8"))
    assert list(graph) == [str(number + 1) for number in range(len(graph))]
    titles = [node["_meta"]["title"] for node in graph.values()]
    assert len(set(titles)) == len(titles)
    assert [client.titled(graph, title) for title in titles] == list(graph.values())


def test_missing_title_is_answered_with_those_there():
    graph = {"1": {"_meta": {"title": "Save Image"}}}
    with pytest.raises(ValueError, match='no node with the title "Prompt". It has: Save Image'):
        client.titled(graph, "Prompt")
