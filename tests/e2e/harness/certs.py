"""A certificate authority for the session, made by the openssl command."""

import datetime
import pathlib
import ssl
import subprocess
import time
import zlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

NAMES = ("DNS:localhost", "IP:127.0.0.1", "IP:::1")


def _openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Authority:
    """ca.pem and leaves that it signed. leaf(name, names…) makes NAME.pem (leaf and chain) and NAME.key once."""

    def __init__(self, folder, name="Tests"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca = self.folder / "ca.pem"
        self.key = self.folder / "ca.key"
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                 "-subj", f"/CN={name} CA", "-keyout", self.key, "-out", self.ca,
                 "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def leaf(self, name="leaf", names=NAMES, days=10, kind="ec", subject=None, usage="serverAuth", age=0):
        """(certificate, key) as paths. A negative number of days makes an expired one; `age`: since how many days it has
        been good already. `kind` of the key: ec or rsa. `names` empty: none."""
        # Kept for the session: another test may mean another certificate by the same name.
        stem = f"{name}-{zlib.crc32(repr((names, days, kind, subject, usage, age)).encode()):08x}"
        cert, key, csr, ext = (self.folder / f"{stem}.{what}" for what in ("pem", "key", "csr", "ext"))
        if cert.exists():
            return cert, key
        ext.write_text(f"basicConstraints=CA:FALSE\nextendedKeyUsage={usage}\n"
                       + (f"subjectAltName={','.join(names)}\n" if names else ""))
        new_key = ["rsa:2048"] if kind == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        _openssl("req", "-new", "-newkey", *new_key, "-nodes", "-utf8",
                 "-subj", subject or f"/CN={name}", "-keyout", key, "-out", csr)
        if days > 0 and not age:
            _openssl("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial",
                     "-days", days, "-extfile", ext, "-out", cert)
        else:
            self._dated(csr, ext, cert, *((-2000, -1999) if days < 0 else (-age, days)))
        return cert, key

    def _dated(self, csr, ext, cert, begin, end):
        """`openssl ca` is the one command of OpenSSL 3.0 that takes both dates. They are in days from now."""
        date = lambda days: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 86400 * days))  # noqa: E731
        conf, new = self.folder / "ca.cnf", self.folder / "new"
        new.mkdir(exist_ok=True)
        (self.folder / "index.txt").touch()
        conf.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder}/index.txt\nnew_certs_dir={new}\n"
                        f"certificate={self.ca}\nprivate_key={self.key}\nrand_serial=yes\ndefault_md=sha256\n"
                        "policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n")
        _openssl("ca", "-batch", "-config", conf, "-in", csr, "-extfile", ext, "-out", cert, "-notext",
                 "-startdate", date(begin), "-enddate", date(end))

    def chain(self, name="leaf", **more):
        """The same with the authority's certificate behind it."""
        cert, key = self.leaf(name, **more)
        both = self.folder / f"{name}.chain.pem"
        both.write_text(cert.read_text() + self.ca.read_text())
        return both, key

    def client(self, name="client", **more):
        """A client's certificate."""
        return self.leaf(name, names=(), usage="clientAuth", **more)

    def _index(self, cert, revoked=False):
        """The line of `openssl ca`'s database for a certificate."""
        serial = subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", cert], check=True, capture_output=True,
                                text=True).stdout.strip().partition("=")[2]
        state = "R\t350101000000Z\t200101000000Z" if revoked else "V\t350101000000Z\t"
        return f"{state}\t{serial}\tunknown\t/CN=any\n"

    def ocsp(self, cert, name="staple", minutes=60, revoked=False):
        """An OCSP response about the certificate that is good for so many minutes; negative: one that was until then."""
        request, index = self.folder / f"{name}.req", self.folder / f"{name}.index"
        out = self.folder / f"{name}.der"
        if minutes < 0:
            out.write_bytes(self._old_ocsp(cert, minutes))
            return out
        index.write_text(self._index(cert, revoked))
        _openssl("ocsp", "-issuer", self.ca, "-cert", cert, "-reqout", request, "-no_nonce")
        _openssl("ocsp", "-index", index, "-rsigner", self.ca, "-rkey", self.key, "-CA", self.ca, "-reqin", request,
                 "-respout", out, "-nmin", minutes)
        return out

    def _old_ocsp(self, cert, minutes):
        """The openssl command makes none that has been out of date."""
        load = lambda path: x509.load_pem_x509_certificate(path.read_bytes())  # noqa: E731
        until = datetime.datetime.utcnow() + datetime.timedelta(minutes=minutes)
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        builder = ocsp.OCSPResponseBuilder().add_response(
            load(cert), load(self.ca), hashes.SHA1(), ocsp.OCSPCertStatus.GOOD, until - datetime.timedelta(days=1), until,
            None, None).responder_id(ocsp.OCSPResponderEncoding.HASH, load(self.ca))
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def crl(self, *revoked):
        """A file with the authority and a revocation list of these certificates."""
        folder = self.folder / f"crl{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        (folder / "index.txt").write_text("".join(self._index(c, revoked=True) for c in revoked))
        (folder / "ca.cnf").write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder}/index.txt\ndefault_md=sha256\n"
                                       f"certificate={self.ca}\nprivate_key={self.key}\ndefault_crl_days=10\n")
        _openssl("ca", "-config", folder / "ca.cnf", "-gencrl", "-out", folder / "crl.pem")
        both = folder / "both.pem"
        both.write_text(self.ca.read_text() + (folder / "crl.pem").read_text())
        return both

    def server_context(self, name="leaf", names=NAMES, days=10, alpn=("http/1.1",)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.leaf(name, names, days))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def client_context(self, alpn=("http/1.1",)):
        context = ssl.create_default_context(cafile=str(self.ca))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context
