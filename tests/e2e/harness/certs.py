"""A certificate authority for the session, made by the openssl command."""

import pathlib
import ssl
import subprocess

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

    def leaf(self, name="leaf", names=NAMES, days=10):
        """(certificate, key) as paths. A negative number of days makes an expired one."""
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        if cert.exists():
            return cert, key
        csr, ext = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        ext.write_text("basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"
                       f"subjectAltName={','.join(names)}\n")
        _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-subj", f"/CN={name}", "-keyout", key, "-out", csr)
        if days > 0:
            _openssl("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial",
                     "-days", days, "-extfile", ext, "-out", cert)
        else:
            self._expired(csr, ext, cert)
        return cert, key

    def _expired(self, csr, ext, cert):
        """`openssl ca` is the one command of OpenSSL 3.0 that takes both dates."""
        conf, new = self.folder / "ca.cnf", self.folder / "new"
        new.mkdir(exist_ok=True)
        (self.folder / "index.txt").touch()
        conf.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder}/index.txt\nnew_certs_dir={new}\n"
                        f"certificate={self.ca}\nprivate_key={self.key}\nrand_serial=yes\ndefault_md=sha256\n"
                        "policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n")
        _openssl("ca", "-batch", "-config", conf, "-in", csr, "-extfile", ext, "-out", cert, "-notext",
                 "-startdate", "200101000000Z", "-enddate", "200102000000Z")

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
