"""TLS 1.3 records made by hand: what no library sends, on a connection that a library has set up."""

import ssl
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from .base import DEADLINE, connect

HANDSHAKE, DATA = 22, 23


def _expand(algorithm, secret, label, n):
    label = b"tls13 " + label
    info = struct.pack(">HB", n, len(label)) + label + b"\0"
    return HKDFExpand(algorithm=algorithm, length=n, info=info).derive(secret)


class RecordClient:
    """A client after its handshake. send() makes one record of what it is given; read() is the library's."""

    def __init__(self, address, context, folder, server_name="localhost"):
        log = folder / "keys"
        log.write_text("")
        context.keylog_filename = str(log)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.sock = connect(address)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=server_name)
        self._step(self._tls.do_handshake)
        name = self._tls.cipher()[0]
        self._hash = hashes.SHA384() if name.endswith("SHA384") else hashes.SHA256()
        self._cipher = ChaCha20Poly1305 if "CHACHA" in name else AESGCM
        self._key_n = 16 if "AES_128" in name else 32
        secret = next(line.split()[2] for line in log.read_text().splitlines() if line.startswith("CLIENT_TRAFFIC_SECRET_0 "))
        self._use(bytes.fromhex(secret))

    def _use(self, secret):
        self._secret, self._seq = secret, 0
        self._aead = self._cipher(_expand(self._hash, secret, b"key", self._key_n))
        self._iv = _expand(self._hash, secret, b"iv", 12)

    def _step(self, function, *args):
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                self._flush()
                got = self.sock.recv(65536)
                if not got:
                    raise ConnectionResetError("the connection was closed") from None
                self._in.write(got)
                continue
            self._flush()
            return result

    def _flush(self):
        if self._out.pending:
            self.sock.sendall(self._out.read())

    def record(self, content, kind=DATA, padding=0):
        """The bytes of one record."""
        inner = content + bytes([kind]) + bytes(padding)
        head = struct.pack(">BHH", DATA, 0x0303, len(inner) + 16)
        nonce = bytes(a ^ b for a, b in zip(self._iv, self._seq.to_bytes(12, "big")))
        self._seq += 1
        return head + self._aead.encrypt(nonce, inner, head)

    def send(self, content, kind=DATA, padding=0):
        self.sock.sendall(self.record(content, kind, padding))

    def key_update(self, requested=False):
        """The record that says that the next ones come under a new key."""
        out = self.record(b"\x18\0\0\x01" + bytes([requested]), HANDSHAKE)
        self._use(_expand(self._hash, self._secret, b"traffic upd", self._hash.digest_size))
        return out

    def read(self, n=65536):
        """Decrypted bytes."""
        return self._step(self._tls.read, n)

    def wait_cut(self):
        """Waits until the server has ended the connection."""
        self.sock.settimeout(DEADLINE)
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
