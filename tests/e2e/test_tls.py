"""TLS of listeners: certificates, sessions, staples, clients' certificates."""

import re
import socket
import ssl
import subprocess

import pytest

from harness import DEADLINE, Client, Reply, eventually, free_port
from harness.certs import Authority
from harness.tarry import check_conf


def echo_subject(request, conn):
    """What a worker learns of the client's certificate, and of the host."""
    get = lambda name: ",".join(v for n, v in request.headers if n.lower() == name) or "-"  # noqa: E731
    return f"{get('tarry-client-subject')}|{get('tarry-client-fingerprint')}|{get('host')}".encode()


@pytest.fixture
def conf(bed):
    """A conf whose one listener speaks TLS with the certificate of localhost."""
    conf = bed.conf(bed.worker(echo_subject))
    cert, key = bed.authority.leaf()
    conf.listens[conf.address].update(certificate=str(cert), private_key=str(key))
    return conf


def listen(conf):
    return conf.listens[conf.address]


def identity(conf, authority, name, names, **more):
    cert, key = authority.leaf(name, names=names, **more)
    conf.identities[name] = {"certificate": str(cert), "private_key": str(key)}


def context(authority, version=None, certificate=None, ciphers=None):
    c = authority.client_context()
    c.check_hostname = False
    if version:
        c.minimum_version = c.maximum_version = version
    if certificate:
        c.load_cert_chain(*certificate)
    if ciphers:
        c.set_ciphers(ciphers)
    return c


def handshake(address, tls, server_name="localhost", session=None):
    sock = socket.create_connection(address.rsplit(":", 1), DEADLINE)
    try:
        return tls.wrap_socket(sock, server_hostname=server_name, session=session)
    except BaseException:
        sock.close()
        raise


def shown(tarry, tls, name):
    """The common name of the certificate that a client is shown who asks for `name` (None: for nothing)."""
    with handshake(tarry.address, tls, name) as s:
        return dict(x[0] for x in s.getpeercert()["subject"])["commonName"]


def ask(tarry, tls, server_name="localhost", host=None, headers=()):
    with Client(tarry.address, tls=tls, server_name=server_name) as c:
        return c.request("GET", "/", headers, host=host or server_name)


def s_client(tarry, *args, data=b""):
    """openssl s_client: what it printed."""
    done = subprocess.run(["openssl", "s_client", "-connect", tarry.address, *map(str, args)], input=data,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE)
    return done.stdout.decode("utf-8", "replace")


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


# --- versions ---

@pytest.mark.parametrize("version", [V12, V13])
def test_serves(bed, conf, version):
    tarry = bed.tarry(conf)
    with Client(tarry.address, tls=context(bed.authority, version), server_name="localhost") as c:
        assert c.sock.version() == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]
        for _ in range(3):
            assert c.request("GET", "/", host="localhost").text == "-|-|localhost"


def test_older_versions_are_refused(bed, conf):
    tarry = bed.tarry(conf)
    assert "alert protocol version" in s_client(tarry, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    conf.listens[conf.address]["tls_min_version"] = "1.3"
    tarry.reload(conf)
    with pytest.raises(ssl.SSLError):
        handshake(tarry.address, context(bed.authority, V12))
    handshake(tarry.address, context(bed.authority, V13)).close()


# --- several certificates ---

def test_the_certificate_is_chosen_by_name(bed, conf):
    identity(conf, bed.authority, "shop-www", ("DNS:shop.example", "DNS:www.shop.example"))
    identity(conf, bed.authority, "wild", ("DNS:*.wild.example",))
    identity(conf, bed.authority, "special", ("DNS:special.wild.example",))
    tarry = bed.tarry(conf)
    tls = context(bed.authority)
    for name, cn in {"shop.example": "shop-www", "WWW.Shop.Example": "shop-www", "a.wild.example": "wild",
                     "special.wild.example": "special", "a.b.wild.example": "leaf", "wild.example": "leaf",
                     "unknown.example": "leaf", "localhost": "leaf"}.items():
        assert shown(tarry, tls, name) == cn, name
    assert shown(tarry, tls, None) == "leaf"


def test_rsa_and_ecdsa_side_by_side(bed, conf):
    """Each client gets what it can use; both for the listener's own name and for another."""
    identity(conf, bed.authority, "leaf-rsa", ("DNS:localhost", "IP:127.0.0.1"), kind="rsa")
    identity(conf, bed.authority, "shop-rsa", ("DNS:shop.example",), kind="rsa")
    identity(conf, bed.authority, "shop-wild", ("DNS:*.example", "DNS:shop.example"))
    tarry = bed.tarry(conf)
    rsa = context(bed.authority, V12, ciphers="ECDHE-RSA-AES128-GCM-SHA256")
    ecdsa = context(bed.authority, V12, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")
    assert [shown(tarry, rsa, n) for n in (None, "localhost", "shop.example")] == ["leaf-rsa", "leaf-rsa", "shop-rsa"]
    assert [shown(tarry, ecdsa, n) for n in (None, "localhost", "shop.example")] == ["leaf", "leaf", "shop-wild"]
    text = s_client(tarry, "-tls1_3", "-servername", "shop.example", "-sigalgs", "RSA-PSS+SHA256")
    assert "CN = shop-rsa" in text, text
    with pytest.raises(ssl.SSLError):  # a name that has an ECDSA certificate only
        handshake(tarry.address, rsa, "other.example")


def test_renewed_certificates_are_read_on_sighup(bed, conf, tmp_path):
    """New connections see the new one, an open one goes on."""
    authority = bed.authority
    old, new = authority.leaf("before", names=("DNS:localhost",)), authority.leaf("after", names=("DNS:localhost",))
    cert, key = tmp_path / "site.crt", tmp_path / "site.key"
    cert.write_bytes(old[0].read_bytes()), key.write_bytes(old[1].read_bytes())
    listen(conf).update(certificate=str(cert), private_key=str(key))
    tarry = bed.tarry(conf)
    with Client(tarry.address, tls=context(authority), server_name="localhost") as c:
        assert c.request("GET", "/", host="localhost").status == 200
        cert.write_bytes(new[0].read_bytes()), key.write_bytes(new[1].read_bytes())
        tarry.reload(conf)
        assert shown(tarry, context(authority), "localhost") == "after"
        assert c.request("GET", "/", host="localhost").status == 200


@pytest.mark.parametrize("breakage", ["empty", "another key", "gone"])
def test_a_broken_certificate_keeps_the_old_one(bed, conf, tmp_path, breakage):
    cert, key = bed.authority.leaf("site", names=("DNS:shop.example",))
    mine = tmp_path / "shop.crt"
    mine.write_bytes(cert.read_bytes())
    conf.identities["shop"] = {"certificate": str(mine), "private_key": str(key)}
    tarry = bed.tarry(conf)
    if breakage == "gone":
        mine.unlink()
    else:
        mine.write_bytes(b"" if breakage == "empty" else bed.authority.leaf()[0].read_bytes())
    conf.top["header_max"] = "16K"  # nothing of the new conf is taken
    since = len(tarry.lines)
    tarry.reload(conf, refused=True)
    line = next(n for n, text in enumerate(conf.text().splitlines(), 1) if str(key if breakage == "another key" else mine) in text)
    tarry.wait_log(re.compile(rf"tarry\.conf:{line}: (certificate|private_key): "), since=since)
    assert shown(tarry, context(bed.authority), "shop.example") == "site"
    assert ask(tarry, context(bed.authority)).status == 200


def test_an_expiring_certificate_is_a_warning(bed, conf):
    conf.admins = {f"127.0.0.1:{free_port()}": {}}
    identity(conf, bed.authority, "old", ("DNS:old.example",), days=-1)
    identity(conf, bed.authority, "soon", ("DNS:soon.example",), days=14, age=76)
    identity(conf, bed.authority, "later", ("DNS:later.example",), days=30, age=60)
    identity(conf, bed.authority, "short", ("DNS:short.example",), days=2, age=4)
    tarry = bed.tarry(conf)
    tarry.wait_log('the ECDSA certificate of "old.example" has expired')
    tarry.wait_log(re.compile(r'the ECDSA certificate of "soon.example" expires in 1[34] days'))
    assert "later.example" not in tarry.stderr and "short.example" not in tarry.stderr
    code, err = check_conf(tarry.path)
    assert code == 0 and "warning: certificate: it expired" in err and err.count("\n") == 1, err
    ends = {name.split('name="')[1].split('"')[0]: value for name, value in tarry.metrics().items()
            if name.startswith("tarry_certificate_expiry_timestamp_seconds")}
    assert set(ends) == {"localhost", "old.example", "soon.example", "later.example", "short.example"}
    for name in ("old", "later"):
        text = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-in", conf.identities[name]["certificate"]], check=True,
                              capture_output=True, text=True).stdout.strip().partition("=")[2]
        assert ends[f"{name}.example"] == ssl.cert_time_to_seconds(text)


# --- sessions ---

def session_of(tarry, tls, name="localhost"):
    """A session that can be resumed. TLS 1.3 brings tickets with the first data."""
    with Client(tarry.address, tls=tls, server_name=name) as c:
        assert c.request("GET", "/", host=name).status == 200
        assert c.sock.session.has_ticket
        return c.sock.session


def resumes(tarry, tls, session, name="localhost"):
    with handshake(tarry.address, tls, name, session) as s:
        return s.session_reused


@pytest.mark.parametrize("version", [V12, V13])
def test_sessions_are_resumed_also_after_a_reload(bed, conf, version):
    tarry, tls = bed.tarry(conf), context(bed.authority, version)
    session = session_of(tarry, tls)
    assert resumes(tarry, tls, session)
    tarry.reload(conf)
    assert resumes(tarry, tls, session)


def test_openssl_resumes(bed, conf, tmp_path):
    tarry = bed.tarry(conf)
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    first = s_client(tarry, "-sess_out", tmp_path / "s", "-servername", "localhost", "-ign_eof", data=request)
    assert "New, TLSv1.3" in first and "HTTP/1.1 200" in first
    second = s_client(tarry, "-sess_in", tmp_path / "s", "-servername", "localhost", "-ign_eof", data=request)
    assert "Reused, TLSv1.3" in second and "HTTP/1.1 200" in second


@pytest.mark.parametrize("version", [V12, V13])
def test_any_process_resumes(bed, conf, version):
    """Also one that was started later in place of one that died, and after a reload."""
    conf.top["processes"] = 2
    tarry, tls = bed.tarry(conf), context(bed.authority, version)
    session = session_of(tarry, tls)
    assert all(resumes(tarry, tls, session) for _ in range(16))
    old = tarry.children()
    subprocess.run(["kill", "-KILL", str(old[0])], check=True)
    eventually(lambda: len(set(tarry.children()) - set(old)) == 1 and len(tarry.children()) == 2, "the new process")
    assert all(eventually(lambda: reached(tarry, tls, session), "a connection") for _ in range(16))
    since = len(tarry.lines)
    tarry.signal(1)
    eventually(lambda: sum("reloaded" in line for line in tarry.lines[since:]) == 2, "both reloads")
    assert all(resumes(tarry, tls, session) for _ in range(16))


def reached(tarry, tls, session):
    """Whether a handshake resumes; None while the kernel still sends some to a process that died."""
    try:
        assert resumes(tarry, tls, session)
        return True
    except (ConnectionError, ssl.SSLEOFError):
        return None


def test_another_start_has_other_keys(bed, conf):
    tarry, tls = bed.tarry(conf), context(bed.authority)
    session = session_of(tarry, tls)
    tarry.stop()
    tarry.start()
    assert not resumes(tarry, tls, session)


def test_a_key_file_is_for_several_machines(bed, conf, tmp_path):
    file = tmp_path / "tickets"
    file.write_text("0123456789abcdef" * 4 + "\n")
    conf.top["ticket_key_file"] = str(file)
    other = bed.another()
    there = other.conf(other.worker(echo_subject))
    there.listens[there.address].update(listen(conf))
    there.top["ticket_key_file"] = str(file)
    here, there, tls = bed.tarry(conf), other.tarry(there), context(bed.authority)
    session = session_of(here, tls)
    assert resumes(there, tls, session)
    # With the next secret, sessions of the one before have their time, and the machines agree again.
    file.write_text("fedcba9876543210" * 4 + "\n")
    here.reload(conf)
    fresh = session_of(here, tls)
    assert resumes(here, tls, session) and not resumes(there, tls, fresh)
    there.reload(there.conf)
    assert resumes(there, tls, fresh) and resumes(there, tls, session)


def test_a_short_ticket_secret_is_refused(bed, conf, tmp_path):
    (tmp_path / "tickets").write_text("short\n")
    conf.top["ticket_key_file"] = str(tmp_path / "tickets")
    (tmp_path / "t.conf").write_text(conf.text())
    code, err = check_conf(tmp_path / "t.conf")
    assert code == 1 and "ticket_key_file: the secret has only 5 characters; take at least 32" in err


def test_a_session_is_resumed_at_its_own_site_only(bed, conf):
    identity(conf, bed.authority, "shop", ("DNS:shop.example",))
    tarry = bed.tarry(conf)
    for version in (V12, V13):
        tls = context(bed.authority, version)
        session = session_of(tarry, tls, "shop.example")
        assert resumes(tarry, tls, session, "shop.example")
        assert not resumes(tarry, tls, session, "localhost")


# --- OCSP ---

def stapled(tarry, name="localhost"):
    text = s_client(tarry, "-status", "-servername", name)
    return "OCSP Response Status: successful" in text and "Cert Status: good" in text


def test_a_staple_is_sent_to_who_asks(bed, conf):
    cert, key = bed.authority.chain()
    listen(conf).update(certificate=str(cert), private_key=str(key), ocsp_staple=str(bed.authority.ocsp(cert)))
    identity(conf, bed.authority, "shop", ("DNS:shop.example",))
    tarry = bed.tarry(conf)
    assert stapled(tarry)
    assert not stapled(tarry, "shop.example")
    assert "OCSP response" not in s_client(tarry, "-servername", "localhost")


@pytest.mark.parametrize("what, why", [
    ("old", "out of date"), ("revoked", "does not say that the certificate is good"), ("other", "about another certificate"),
    ("foreign", "its signature is not that of"), ("junk", "no OCSP response")])
def test_a_useless_staple_is_logged_and_left_out(bed, conf, tmp_path, what, why):
    cert, key = bed.authority.chain()
    good = bed.authority.ocsp(cert, "good")
    file = tmp_path / "staple.der"
    if what == "junk":
        file.write_bytes(b"junk")
    elif what == "other":
        file.write_bytes(bed.authority.ocsp(bed.authority.leaf("other", names=("DNS:other.example",))[0], "about-other").read_bytes())
    elif what == "foreign":  # the same name of the authority, another key
        forger = Authority(tmp_path / "forger")
        file.write_bytes(forge(forger, bed.authority, cert))
    else:
        file.write_bytes(bed.authority.ocsp(cert, what, minutes=-60 if what == "old" else 60, revoked=what == "revoked").read_bytes())
    listen(conf).update(certificate=str(cert), private_key=str(key), ocsp_staple=str(file))
    tarry = bed.tarry(conf)
    tarry.wait_log(re.compile(rf'OCSP response of "localhost": ".*staple.der" is not stapled: .*{why}'))
    assert not stapled(tarry)
    assert ask(tarry, context(bed.authority)).status == 200
    # SIGHUP takes what has been fetched meanwhile.
    file.write_bytes(good.read_bytes())
    tarry.reload(conf)
    assert stapled(tarry)


def forge(forger, authority, cert):
    """A response about the authority's certificate, signed by somebody else."""
    forger.folder.joinpath("index").write_text(authority._index(cert))
    out = forger.folder / "forged.der"
    for command in (["-issuer", authority.ca, "-cert", cert, "-reqout", forger.folder / "req", "-no_nonce"],
                    ["-index", forger.folder / "index", "-rsigner", forger.ca, "-rkey", forger.key, "-CA", authority.ca,
                     "-reqin", forger.folder / "req", "-respout", out, "-nmin", "60"]):
        subprocess.run(["openssl", "ocsp", *map(str, command)], check=True, capture_output=True)
    return out.read_bytes()


# --- clients' certificates ---

def refused(tarry, tls, address=None):
    """Whether the client with this context gets nowhere, and is told why. TLS 1.3 tells it with the first data."""
    try:
        sock = socket.create_connection((address or tarry.address).rsplit(":", 1), DEADLINE)
        with tls.wrap_socket(sock, server_hostname="localhost") as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert s.recv(65536).startswith(b"HTTP/1.1 200")
    except ssl.SSLError as e:
        assert "ALERT" in e.reason, e
        return True
    return False


@pytest.fixture
def members(bed, conf):
    """Clients' certificates are required, from an authority of their own."""
    authority = Authority(bed.folder / "members", "Members")
    listen(conf).update(client_certificate="required", client_ca_file=str(authority.ca))
    return authority


@pytest.mark.parametrize("version", [V12, V13])
def test_the_worker_learns_the_client_s_subject(bed, conf, members, version):
    cert, key = members.client("ann", subject="/O=Example, Inc./OU=Zoë+CN=Ann \"A\" <x>")
    tarry = bed.tarry(conf)
    tls = context(bed.authority, version, (cert, key))
    digest = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-fingerprint", "-sha256"], check=True, capture_output=True,
                            text=True).stdout.strip().partition("=")[2].replace(":", "").lower()
    subject, fingerprint, _ = ask(tarry, tls).text.split("|")
    assert fingerprint == digest
    assert subject == r'CN=Ann \"A\" \<x\>+OU=Zo\C3\AB,O=Example\, Inc.' or subject == r'OU=Zo\C3\AB+CN=Ann \"A\" \<x\>,O=Example\, Inc.'
    # The session brings it along.
    session = session_of(tarry, tls)
    with Client(tarry.address, tls=Resuming(tls, session), server_name="localhost") as c:
        assert c.sock.session_reused
        assert c.request("GET", "/", host="localhost").text.split("|")[1] == digest


class Resuming:
    """A context whose connections resume a session."""

    def __init__(self, tls, session):
        self.tls, self.session = tls, session

    def wrap_socket(self, sock, server_hostname):
        return self.tls.wrap_socket(sock, server_hostname=server_hostname, session=self.session)


@pytest.mark.parametrize("version", [V12, V13])
def test_without_a_good_certificate_nobody_comes_in(bed, conf, members, version):
    tarry = bed.tarry(conf)
    for why, certificate in {
            "none": None,
            "another authority's": bed.authority.client("stranger"),
            "expired": members.client("late", days=-1),
            "a server's": members.leaf("server")}.items():
        assert refused(tarry, context(bed.authority, version, certificate)), why
    assert not refused(tarry, context(bed.authority, version, members.client()))
    assert len(tarry.access.wait_for() and tarry.access.lines) == 1


def test_a_certificate_without_a_subject_is_one(bed, conf, members):
    tarry = bed.tarry(conf)
    subject, fingerprint, _ = ask(tarry, context(bed.authority, certificate=members.client("nobody", subject="/"))).text.split("|")
    assert subject == "-" and len(fingerprint) == 64


def test_optional_certificates(bed, conf, members):
    listen(conf)["client_certificate"] = "optional"
    tarry = bed.tarry(conf)
    assert ask(tarry, context(bed.authority)).text == "-|-|localhost"
    assert ask(tarry, context(bed.authority, certificate=members.client())).text.startswith("CN=client|")
    assert refused(tarry, context(bed.authority, certificate=bed.authority.client("stranger")))


def test_nobody_forges_a_subject(bed, conf, members):
    listen(conf)["client_certificate"] = "optional"
    tarry = bed.tarry(conf)
    forged = [("Tarry-Client-Subject", "CN=root"), ("tarry_client_subject", "CN=root"), ("Tarry-Client.Fingerprint", "00")]
    assert ask(tarry, context(bed.authority), headers=forged).text == "-|-|localhost"
    with_one = ask(tarry, context(bed.authority, certificate=members.client()), headers=forged).text
    assert with_one.startswith("CN=client|") and "root" not in with_one


def test_revoked_certificates_are_refused_after_a_reload(bed, conf, members):
    tarry = bed.tarry(conf)
    gone, good = members.client("gone"), members.client("good")
    for version in (V12, V13):
        assert not refused(tarry, context(bed.authority, version, gone))
    sessions = {v: (tls, session_of(tarry, tls)) for v in (V12, V13) for tls in [context(bed.authority, v, gone)]}
    listen(conf)["client_ca_file"] = str(members.crl(gone[0]))
    tarry.reload(conf)
    for version, (tls, session) in sessions.items():
        assert refused(tarry, tls)
        assert refused(tarry, Resuming(tls, session)), "its session was resumed"
        assert not refused(tarry, context(bed.authority, version, good))


@pytest.mark.parametrize("version", [V12, V13])
def test_a_session_without_a_certificate_is_not_resumed_where_one_is_required(bed, conf, members, version):
    """Neither from another listener nor from before a reload: the ticket's keys are the same."""
    free = f"127.0.0.1:{free_port()}"
    conf.listens[free] = {k: v for k, v in listen(conf).items() if not k.startswith("client")}
    tarry, tls = bed.tarry(conf), context(bed.authority, version)
    with Client(free, tls=tls, server_name="localhost") as c:
        assert c.request("GET", "/", host="localhost").status == 200
        session = c.sock.session
    with handshake(free, tls, session=session) as s:
        assert s.session_reused
    assert refused(tarry, Resuming(tls, session))
    conf.listens[free].update(client_certificate="required", client_ca_file=str(members.ca))
    tarry.reload(conf)
    assert refused(tarry, Resuming(tls, session), free)


@pytest.mark.slow
@pytest.mark.parametrize("version", [V12, V13])
def test_a_session_does_not_outlive_its_certificate(bed, conf, members, version):
    """The session is good for two hours, the certificate for some seconds."""
    tarry = bed.tarry(conf)
    tls = context(bed.authority, version, members.client(f"brief{version}", days=6 / 86400, age=1))
    session = session_of(tarry, tls)
    assert not refused(tarry, Resuming(tls, session))
    eventually(lambda: refused(tarry, Resuming(tls, session)), "the end of the certificate")


def test_long_chains_are_refused(bed, conf, members):
    listen(conf)["client_chain_max"] = 0
    sub = bed.folder / "sub"
    sub.mkdir()
    run = lambda *a: subprocess.run(["openssl", *map(str, a)], check=True, capture_output=True)  # noqa: E731
    run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Sub", "-keyout", sub / "k",
        "-out", sub / "csr")
    (sub / "ext").write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
    run("x509", "-req", "-in", sub / "csr", "-CA", members.ca, "-CAkey", members.key, "-CAcreateserial", "-days", 5,
        "-extfile", sub / "ext", "-out", sub / "c")
    run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=deep", "-keyout", sub / "k2",
        "-out", sub / "csr2")
    run("x509", "-req", "-in", sub / "csr2", "-CA", sub / "c", "-CAkey", sub / "k", "-CAcreateserial", "-days", 5, "-out", sub / "c2")
    (sub / "chain").write_text((sub / "c2").read_text() + (sub / "c").read_text())
    tarry = bed.tarry(conf)
    tls = context(bed.authority, certificate=(sub / "chain", sub / "k2"))
    assert refused(tarry, tls)
    assert not refused(tarry, context(bed.authority, certificate=members.client()))
    listen(conf)["client_chain_max"] = 1
    tarry.reload(conf)
    assert not refused(tarry, tls)


def test_curl_shows_its_certificate(bed, conf, members):
    cert, key = members.client()
    tarry = bed.tarry(conf)
    done = subprocess.run(["curl", "-sS", "--cacert", bed.authority.ca, "--cert", cert, "--key", key,
                           f"https://localhost:{tarry.port}/"], capture_output=True, text=True, timeout=DEADLINE)
    assert done.stdout.startswith("CN=client|"), done.stderr


# --- the host of a request ---

def test_N05_sni_and_authority_disagree(bed, conf):
    identity(conf, bed.authority, "shops", ("DNS:shop.example", "DNS:*.shop.example"))
    identity(conf, bed.authority, "till", ("DNS:till.shop.example",))
    tarry, tls = bed.tarry(conf), context(bed.authority)
    served = [("localhost", "localhost"), ("localhost", "localhost:8443"), ("shop.example", "SHOP.example."),
              ("shop.example", "www.shop.example"),   # one certificate: a client may use one connection for both
              ("unknown.example", "unknown.example"),  # the listener's own certificate, and what was asked for
              ("localhost", "127.0.0.1"),              # the certificate names the address too
              (None, "shop.example")]                  # nothing was asked for: nothing disagrees
    refusals = [("localhost", "shop.example"), ("shop.example", "localhost"), ("shop.example", "unknown.example"),
                ("shop.example", "till.shop.example"),  # covered by the wildcard, but another identity's
                ("till.shop.example", "shop.example"), ("localhost", "other.example"), ("unknown.example", "localhost2"),
                ("localhost", "127.0.0.2"), ("localhost", "[::2]")]
    for name, host in served + refusals:
        with handshake(tarry.address, tls, name) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            head = b"".join(iter(lambda: sock.recv(65536), b""))
        want = b"HTTP/1.1 421 " if (name, host) in refusals else b"HTTP/1.1 200 "
        assert head.startswith(want), (name, host, head)
    assert b"tarry; error=http_request_error" in head


@pytest.mark.parametrize("version", [V12, V13])
def test_N05_in_a_resumed_session(bed, conf, version):
    """With TLS 1.2 OpenSSL forgets the name that a resumed session asks for."""
    tarry, tls = bed.tarry(conf), context(bed.authority, version)
    session = session_of(tarry, tls)
    for host, status in (("localhost", b"200"), ("other.example", b"421")):
        with handshake(tarry.address, tls, session=session) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            head = b"".join(iter(lambda: sock.recv(65536), b""))
            assert sock.session_reused
        assert head.startswith(b"HTTP/1.1 " + status), head


def test_N05_over_http2(bed, conf):
    """As browsers do that reuse a connection; they open another one after it."""
    tarry = bed.tarry(conf)
    for host, status in (("localhost", "200"), ("other.example", "421")):
        done = subprocess.run(["curl", "-sS", "--http2", "--cacert", bed.authority.ca, "-H", f"Host: {host}", "-o", "/dev/null",
                               "-w", "%{http_version} %{http_code}", f"https://localhost:{tarry.port}/"],
                              capture_output=True, text=True, timeout=DEADLINE)
        assert done.stdout == f"2 {status}", done


def test_a_misdirected_request_may_be_served(bed, conf):
    tarry, tls = bed.tarry(conf), context(bed.authority)
    answer = ask(tarry, tls, host="other.example")
    assert answer.status == 421 and answer.json()["error"] == "http_request_error"
    conf.top["trusted_proxies"] = ["127.0.0.1"]
    tarry.reload(conf)
    assert ask(tarry, tls, host="other.example").status == 200
    conf.top["trusted_proxies"] = []
    listen(conf)["misdirected"] = "serve"
    tarry.reload(conf)
    assert ask(tarry, tls, host="other.example").status == 200
