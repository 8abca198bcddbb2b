"""An HTTP proxy on the way to upstreams (CONNECT): a real one, and one that is told what to answer."""

import base64

import pytest

from harness import Gate, Reply, free_port
from harness.base import eventually
from harness.proxies import ScriptedProxy, TinyProxy
from harness.tarry import check_conf, run_command
from test_docs_services import CONFS
from harness.websockets import WebSocketServer, talk

KEY = {"set_header": ["Authorization: Bearer the-upstream-s-key"]}


def gateway(bed, upstream, proxy, up=None, **more):
    conf = bed.conf((), upstream)
    conf.up.update({"proxy": proxy if isinstance(proxy, str) else proxy.url, "retries": 0, **KEY, **(up or {})})
    conf.routes = [("/", {"upstream": "up", **more})]
    return bed.tarry(conf)


def failed(tarry, status, error, words):
    got = tarry.get("/x")
    assert (got.status, got.headers.get("Proxy-Status")) == (status, f"tarry; error={error}"), got
    tarry.wait_log(words)


# --- a real one ---

@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_tls_and_http2_are_end_to_end_through_a_real_proxy(bed, protocol):
    upstream = bed.h2_upstream() if protocol == "h2" else bed.tls_upstream()
    proxy = bed.add(TinyProxy(bed.folder, [f"ConnectPort {upstream.port}"]))
    tarry = gateway(bed, upstream, proxy)
    for _ in range(3):
        assert tarry.get("/x").body == b"ok"
    assert proxy.tunnels == [upstream.address]  # one connection for all


def test_a_password_of_the_conf_opens_a_real_proxy(bed):
    upstream = bed.tls_upstream()
    proxy = bed.add(TinyProxy(bed.folder, [f"ConnectPort {upstream.port}", "BasicAuth joe s3cret"]))
    tarry = gateway(bed, upstream, proxy.url.replace("http://", "http://joe:s3cret@"))
    assert tarry.get("/x").body == b"ok"
    printed = run_command("-T", "-c", tarry.path)[1]
    assert "s3cret" not in printed and f'proxy = "http://(not shown)@127.0.0.1:{proxy.port}"' in printed


def test_a_real_proxy_that_wants_a_password_is_told_of(bed):
    upstream = bed.tls_upstream()
    proxy = bed.add(TinyProxy(bed.folder, [f"ConnectPort {upstream.port}", "BasicAuth joe s3cret"]))
    failed(gateway(bed, upstream, proxy), 502, "proxy_configuration_error", "proxy_authorization")


def test_a_real_proxy_that_forbids_the_port_is_told_of(bed):
    upstream = bed.tls_upstream()
    proxy = bed.add(TinyProxy(bed.folder, ["ConnectPort 443"]))
    failed(gateway(bed, upstream, proxy), 502, "proxy_configuration_error", "403: it does not allow this host and port")


def test_a_real_proxy_that_reaches_nobody_is_told_of(bed):
    port = free_port()
    proxy = bed.add(TinyProxy(bed.folder, [f"ConnectPort {port}"]))
    failed(gateway(bed, f"https://127.0.0.1:{port}", proxy), 502, "destination_unavailable", "it cannot reach the service")


def test_a_websocket_through_a_real_proxy(bed):
    server = bed.add(WebSocketServer(ssl=bed.authority.server_context()))
    proxy = bed.add(TinyProxy(bed.folder, [f"ConnectPort {server.address.rpartition(':')[2]}"]))
    tarry = gateway(bed, server, proxy, websocket=True)

    async def conversation(ws):
        await ws.send("x" * 100000)
        assert await ws.recv() == "x" * 100000
    talk(f"ws://{tarry.address}/x", conversation)


# --- to the letter ---

def test_the_conf_of_the_docs_works_as_it_stands(bed):
    upstream = bed.tls_upstream()
    proxy = bed.add(ScriptedProxy())
    text = CONFS["proxy.conf"].replace("https://api.openai.com", upstream.origin).replace("http://proxy.internal:3128", proxy.url)
    text = text.replace("proxy      =", f'ca_file = "{bed.authority.ca}"\n    proxy      =')
    address = f"127.0.0.1:{free_port()}"
    tarry = bed.tarry(f'listen "{address}" {{ }}\n{text}\nroute "/" {{ upstream = "openai" }}\n', address=address,
                      env={"OPENAI_API_KEY": "ours", "PROXY_CREDENTIALS": "eA=="})
    assert tarry.get("/x").body == b"ok" and "Proxy-Authorization: Basic eA==\r\n" in proxy.heads[0]
    assert upstream.requests[0].headers.get("Authorization") == "Bearer ours"



def test_the_proxy_gets_its_own_credentials_and_nothing_of_the_call(bed):
    upstream = bed.tls_upstream()
    proxy = bed.add(ScriptedProxy())
    tarry = gateway(bed, upstream, proxy, up={"proxy_authorization": "Bearer for-the-proxy"})
    assert tarry.get("/secret/path", [("X-Secret", "1")]).body == b"ok"
    assert proxy.heads == [f"CONNECT {upstream.address} HTTP/1.1\r\nHost: {upstream.address}\r\n"
                           "Proxy-Authorization: Bearer for-the-proxy\r\n\r\n"]
    assert b"the-upstream-s-key" not in b"".join(proxy.first) and proxy.first[0][0] == 22  # TLS
    assert "Proxy-Authorization" not in upstream.requests[0].headers


def test_the_proxy_resolves_the_name(bed):
    """A name that nobody here knows, with a port of its own."""
    upstream = bed.tls_upstream(certificate="invalid", cert={"names": ("DNS:model.invalid",)})
    proxy = bed.add(ScriptedProxy(target=upstream.address))
    conf = bed.conf((), upstream)
    conf.up.update(origin="https://model.invalid", proxy=proxy.url)
    conf.routes = [("/", {"upstream": "up"})]
    tarry = bed.tarry(conf)
    assert tarry.get("/x").body == b"ok"
    assert proxy.heads[0].startswith("CONNECT model.invalid:443 HTTP/1.1\r\n")


def test_a_password_in_the_url_is_decoded(bed):
    upstream = bed.tls_upstream()
    proxy = bed.add(ScriptedProxy())
    tarry = gateway(bed, upstream, proxy.url.replace("http://", "http://j%40e:a%3Ab%25@"))
    assert tarry.get("/x").body == b"ok"
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'j@e:a:b%').decode()}\r\n" in proxy.heads[0]


def test_plain_http_goes_through_a_tunnel_too(bed):
    upstream = bed.upstream()
    proxy = bed.add(ScriptedProxy())
    tarry = gateway(bed, upstream, proxy, up={"insecure": True})
    assert tarry.get("/x").body == b"ok"
    assert len(proxy.heads) == 1 and upstream.requests[0].target == "/x"


def test_an_endpoint_may_have_its_own_proxy_or_none(bed):
    one, two = bed.tls_upstream(), bed.tls_upstream()
    proxy = bed.add(ScriptedProxy(lambda head: b"HTTP/1.1 503 No\r\n\r\n"))
    conf = bed.conf((), one)
    del conf.up["origin"]
    conf.up["proxy"] = proxy.url
    conf.endpoints["up"] = {"a": {"origin": one.origin, "tier": 1}, "b": {"origin": two.origin, "tier": 2, "proxy": ""}}
    conf.routes = [("/", {"upstream": "up"})]
    tarry = bed.tarry(conf)
    assert tarry.get("/x").body == b"ok"
    assert len(proxy.heads) == 1 and not one.requests and len(two.requests) == 1


@pytest.mark.parametrize("answer, status, error, words", [
    (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", 502, "proxy_configuration_error", "407"),
    (b"HTTP/1.1 405 No\r\n\r\n", 502, "proxy_configuration_error", "allows CONNECT"),
    (b"HTTP/1.1 502 No\r\n\r\n", 502, "destination_unavailable", "cannot reach"),
    (b"HTTP/1.1 504 No\r\n\r\n", 504, "connection_timeout", "504"),
    (b"SSH-2.0-OpenSSH\r\n", 502, "proxy_configuration_error", "malformed"),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "proxy_configuration_error", "101"),
    (b"HTTP/1.1 200 OK\r\n\r\nHello, here is a page", 502, "proxy_configuration_error", "before TLS began"),
    (b"", 502, "destination_unavailable", "without an answer"),
])
def test_what_the_proxy_answers_becomes_a_clear_error(bed, answer, status, error, words):
    failed(gateway(bed, bed.tls_upstream(), bed.add(ScriptedProxy(lambda head: answer))), status, error, words)


def test_a_200_that_comes_byte_by_byte_behind_an_interim_one(bed):
    proxy = bed.add(ScriptedProxy(lambda head: b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 Connection established\r\nContent-Length: 5\r\n\r\n"))
    assert gateway(bed, bed.tls_upstream(), proxy).get("/x").body == b"ok"


def test_a_silent_proxy_is_bound_by_connect_timeout(bed):
    proxy = bed.add(ScriptedProxy(lambda head: None))
    failed(gateway(bed, bed.tls_upstream(), proxy, up={"connect_timeout": "300ms"}), 504, "connection_timeout", "through the proxy took longer")


def test_a_proxy_that_is_not_there(bed):
    failed(gateway(bed, bed.tls_upstream(), f"http://127.0.0.1:{free_port()}"), 502, "connection_refused", "through the proxy")
    failed(gateway(bed.another(), bed.tls_upstream(), "http://proxy.invalid:3128"), 502, "dns_error", 'resolve the proxy "proxy.invalid"')


def test_a_certificate_is_checked_in_the_tunnel(bed):
    upstream = bed.tls_upstream(certificate="other", cert={"names": ("DNS:other.example",)})
    failed(gateway(bed, upstream, bed.add(ScriptedProxy())), 502, "tls_certificate_error", "certificate")


def test_a_reload_to_another_proxy_is_for_the_calls_after_it(bed):
    upstream, gate = bed.tls_upstream(lambda r, c: gate.wait() or Reply(200, b"ok") if r.target == "/slow" else Reply(200, b"ok")), Gate()
    one, two = bed.add(ScriptedProxy()), bed.add(ScriptedProxy())
    tarry = gateway(bed, upstream, one)
    slow = bed.background(tarry.get, "/slow")
    eventually(lambda: len(upstream.requests) == 1, "the slow call")
    tarry.conf.up["proxy"] = two.url
    tarry.reload(tarry.conf)
    assert tarry.get("/x").body == b"ok" and len(two.heads) == 1
    gate.open()
    assert slow.result().body == b"ok" and len(one.heads) == 1


@pytest.mark.parametrize("option, words", [
    ('proxy = "https://proxy.example"', "reached in the clear"),
    ('proxy = "proxy.example:3128"', 'a proxy is written "http://HOST:PORT"'),
    ('proxy = "http://joe:s3cret@proxy.example/path"', "is no proxy"),
    ('proxy = "http://joe:100%@proxy.example"', "percent sign"),
    ('proxy_authorization = "Basic s3cret"', "without proxy"),
    ('proxy = "http://j:s3cret@proxy.example"  proxy_authorization = "Basic s3cret"', "a user already"),
])
def test_mistakes_in_the_conf_are_named_without_the_secret(bed, option, words):
    path = bed.folder / "t.conf"
    path.write_text(f'listen "127.0.0.1:{free_port()}" {{ }}\nupstream "ai" {{ origin = "https://ai.example"  {option} }}\n'
                    'route "/" { upstream = "ai" }\n')
    code, err = check_conf(path)
    assert code == 1 and words in err and "s3cret" not in err, err
