"""TLS towards upstreams: certificates that Tarry shows, and authorities that are no roots."""

import ssl
import subprocess

import pytest

from harness import Gate, Reply, eventually, free_port
from harness.certs import Authority
from harness.h2server import H2Upstream
from harness.server import ScriptedUpstream
from harness.tarry import check_conf
from test_privileges import NOBODY, place, reload, root_only, start  # noqa: F401


def asking(bed, authority=None, alpn=("http/1.1",), version=None):
    """The context of a server that asks for a client certificate of that authority."""
    context = bed.authority.server_context(alpn=alpn)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(str((authority or bed.authority).ca))
    if version:
        context.maximum_version = version
    return context


def shown(r, c):
    """Whose certificate the client has shown."""
    return Reply(200, dict(part[0] for part in c.sock.getpeercert()["subject"])["commonName"])


def identity(bed, name="client", **more):
    certificate, key = bed.authority.client(name, **more)
    return {"certificate": str(certificate), "private_key": str(key)}


def gateway(bed, upstream, up=None):
    conf = bed.conf((), upstream)
    conf.up.update(up or {})
    conf.routes = [("/", {"upstream": "up"})]
    return bed.tarry(conf)


def failed(tarry, error, words):
    got = tarry.get("/x")
    assert (got.status, got.headers.get("Proxy-Status")) == (502, f"tarry; error={error}"), got
    tarry.wait_log(words)


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@VERSIONS
def test_the_conf_s_certificate_is_shown(bed, version):
    upstream = bed.add(ScriptedUpstream(shown, tls=asking(bed, version=version)))
    tarry = gateway(bed, upstream, identity(bed))
    assert tarry.get("/x").body == b"client"


def test_over_http2(bed):
    upstream = bed.add(H2Upstream(asking(bed, alpn=("h2",))))
    assert gateway(bed, upstream, identity(bed)).get("/x").body == b"ok"


@VERSIONS
def test_a_service_that_wants_one_is_told_of_with_the_remedy(bed, version):
    upstream = bed.add(ScriptedUpstream(shown, tls=asking(bed, version=version)))
    failed(gateway(bed, upstream, {"retries": 0}), "tls_alert_received", "certificate and private_key")


@VERSIONS
def test_a_service_that_wants_another_one_is_told_of(bed, version):
    other = Authority(bed.folder / "other", "Other")
    upstream = bed.add(ScriptedUpstream(shown, tls=asking(bed, other, version=version)))
    failed(gateway(bed, upstream, {"retries": 0, **identity(bed)}), "tls_alert_received", "certificate and private_key")


def test_over_http2_a_service_that_wants_one_is_told_of(bed):
    upstream = bed.add(H2Upstream(asking(bed, alpn=("h2",))))
    failed(gateway(bed, upstream, {"retries": 0}), "tls_alert_received", "certificate and private_key")


def test_endpoints_show_their_own(bed):
    upstream = bed.add(ScriptedUpstream(shown, tls=asking(bed)))
    conf = bed.conf((), upstream)
    del conf.up["origin"]
    conf.up.update(identity(bed, "ours"))
    conf.endpoints["up"] = {"a": {"origin": upstream.origin}, "b": {"origin": upstream.origin, **identity(bed, "theirs")}}
    conf.routes = [("/", {"upstream": "up"})]
    tarry = bed.tarry(conf)
    eventually(lambda: {tarry.get("/x").body for _ in range(8)} == {b"ours", b"theirs"}, "both to be used")
    assert not upstream.errors


@VERSIONS
def test_a_reload_shows_the_new_one_and_resumes_no_session_of_the_old(bed, version):
    """Nor are calls made any more over connections that the old one has opened."""
    seen = []

    def handler(r, c):
        seen.append((c.number, c.sock.session_reused))
        return shown(r, c)
    upstream = bed.add(ScriptedUpstream(handler, tls=asking(bed, version=version), keep_alive=True))
    tarry = gateway(bed, upstream, identity(bed, "before"))
    assert [tarry.get("/x").body for _ in range(2)] == [b"before"] * 2
    new = identity(bed, "after")
    for kind in ("certificate", "private_key"):
        path = tarry.conf.up[kind]
        (bed.folder / kind).write_text(open(new[kind]).read())
    tarry.conf.up.update({kind: str(bed.folder / kind) for kind in new})
    tarry.reload(tarry.conf)
    assert tarry.get("/x").body == b"after"
    third = identity(bed, "third")
    for kind in third:  # the same paths with something else in them
        (bed.folder / kind).write_text(open(third[kind]).read())
    tarry.reload(tarry.conf)
    assert tarry.get("/x").body == b"third"
    assert not any(reused for _, reused in seen)


def test_a_reload_lets_a_call_of_the_old_one_end(bed):
    gate = Gate()

    def handler(r, c):
        if r.target == "/slow":
            gate.wait()
        return shown(r, c)
    upstream = bed.add(ScriptedUpstream(handler, tls=asking(bed)))
    tarry = gateway(bed, upstream, identity(bed, "before"))
    slow = bed.background(tarry.get, "/slow")
    eventually(lambda: upstream.requests, "the slow call")
    tarry.conf.up.update(identity(bed, "after"))
    tarry.reload(tarry.conf)
    assert tarry.get("/x").body == b"after"
    gate.open()
    assert slow.result().body == b"before"


@root_only
def test_the_key_may_be_root_s_alone(bed, place):  # noqa: F811
    """At the start, and by a reload after root's rights are gone."""
    upstream = bed.add(ScriptedUpstream(shown, tls=asking(bed)))
    from harness import Conf

    def put(name):
        for kind, path in identity(bed, name).items():
            (place / "keys" / kind).write_text(open(path).read())
            (place / "keys" / kind).chmod(0o600)
    put("one")
    conf = Conf(place, [], upstream)
    conf.top.update(user="nobody", temp_dir=str(place / "temp"))
    conf.access_log["target"] = str(place / "logs" / "access.log")
    conf.up.update(ca_file=str(bed.authority.ca), **{kind: str(place / "keys" / kind) for kind in ("certificate", "private_key")})
    (place / "ca.pem").write_text(bed.authority.ca.read_text())
    conf.up["ca_file"] = str(place / "ca.pem")
    conf.routes = [("/", {"upstream": "up"})]
    tarry = start(bed, place, conf)
    assert tarry.get("/x").body == b"one"
    put("two")
    reload(tarry)
    assert tarry.get("/x").body == b"two"


@pytest.mark.parametrize("change, words", [
    ({"private_key": None}, "belong together"),
    ({"certificate": None}, "belong together"),
    ({"private_key": "other.key"}, "private_key"),
    ({"certificate": "missing.pem"}, "certificate"),
    ({"origin": "http://127.0.0.1:1"}, "no use for a plain http origin"),
])
def test_mistakes_in_the_conf(bed, change, words):
    _, other = bed.authority.client("other")
    options = {"origin": "https://ai.example", **identity(bed), **change}
    if options.get("private_key") == "other.key":
        options["private_key"] = str(other)
    path = bed.folder / "t.conf"
    inner = "".join(f'{k} = "{v}"\n' for k, v in options.items() if v)
    path.write_text(f'listen "127.0.0.1:{free_port()}" {{ }}\nupstream "ai" {{\n{inner}}}\nroute "/" {{ upstream = "ai" }}\n')
    code, err = check_conf(path)
    assert code == 1 and words in err, err


# --- ca_file ---

def signed(folder, name, issuer, extensions):
    """NAME.pem and NAME.key, signed by the issuer's pair."""
    run = lambda *args: subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)  # noqa: E731
    cert, key, csr, ext = (folder / f"{name}.{kind}" for kind in ("pem", "key", "csr", "ext"))
    ext.write_text(extensions)
    run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", csr)
    run("x509", "-req", "-in", csr, "-CA", issuer[0], "-CAkey", issuer[1], "-CAcreateserial", "-days", "9", "-extfile", ext, "-out", cert)
    return cert, key


@pytest.mark.parametrize("trusted", ["root", "intermediate", "leaf"])
def test_what_ca_file_holds_is_trusted_as_it_is(bed, trusted):
    """A root, an intermediate alone, or the server's own certificate."""
    root = Authority(bed.folder / "root", "Root")
    between = signed(bed.folder, "intermediate", (root.ca, root.key), "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
    leaf = signed(bed.folder, "leaf", between, "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n")
    (bed.folder / "chain.pem").write_text(leaf[0].read_text() + between[0].read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bed.folder / "chain.pem", leaf[1])
    upstream = bed.add(ScriptedUpstream(tls=context))
    ca = {"root": root.ca, "intermediate": between[0], "leaf": leaf[0]}[trusted]
    assert gateway(bed, upstream, {"ca_file": str(ca)}).get("/x").body == b"ok"


def test_another_intermediate_is_not_trusted(bed):
    root = Authority(bed.folder / "root", "Root")
    extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
    between, other = (signed(bed.folder, name, (root.ca, root.key), extensions) for name in ("between", "other"))
    leaf = signed(bed.folder, "leaf", between, "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n")
    (bed.folder / "chain.pem").write_text(leaf[0].read_text() + between[0].read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bed.folder / "chain.pem", leaf[1])
    upstream = bed.add(ScriptedUpstream(tls=context))
    failed(gateway(bed, upstream, {"ca_file": str(other[0]), "retries": 0}), "tls_certificate_error", "certificate")
