"""The whole path over TLS: consumer and provider trust the coordinator's certificate and nothing else."""

import datetime
import ipaddress

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import patient
from harness import wait_until
from test_lifecycle import coordinator_command, darkbloom


def certificate(name, issuer=None, issuer_key=None, authority=False, address="127.0.0.1"):
    """(certificate, key) as a small authority makes them."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False)
            .sign(issuer_key or key, hashes.SHA256()))
    return made, key


def write(folder, name, made, key):
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


@pytest.fixture
def pki(tmp_path):
    """authority.pem, server.pem with server.key, and other.pem, an authority that has signed nothing."""
    authority, authority_key = certificate("test authority", authority=True)
    write(tmp_path, "authority", authority, authority_key)
    write(tmp_path, "server", *certificate("127.0.0.1", authority, authority_key))
    write(tmp_path, "elsewhere", *certificate("10.0.0.1", authority, authority_key, address="10.0.0.1"))
    write(tmp_path, "other", *certificate("other authority", authority=True))
    return tmp_path


def tls(pki, name="server"):
    return {"server": {"tls_cert": str(pki / f"{name}.pem"), "tls_key": str(pki / f"{name}.key")}}


def test_the_whole_path_over_tls(coordinator, provider, pki, tmp_path):
    node = coordinator(tls(pki), ca=pki / "authority.pem")
    provider(node, {"text": "one two three"}, options=("--ca", pki / "authority.pem"))
    assert node.url.startswith("https://")
    assert node.chat("scripted").json()["choices"][0]["message"]["content"] == "one two three"
    said = darkbloom(tmp_path, "chat", "--url", node.url, "--ca", pki / "authority.pem", "--key-file", node.key_file, "hello")
    assert said.stdout == "one two three\n", said.stderr
    with pytest.raises(httpx.ConnectError):
        patient.get(node.url + "/health")
    with pytest.raises(httpx.HTTPError):
        patient.get(node.url.replace("https", "http") + "/health")
    node.check_books()


@pytest.mark.parametrize("trusted, served", [("other", "server"), ("authority", "elsewhere")])
def test_a_provider_refuses_a_coordinator_it_cannot_trust(coordinator, provider, pki, trusted, served):
    node = coordinator(tls(pki, served), ca=False)
    refusing = provider(node, {"text": "hi"}, wait=False, options=("--ca", pki / f"{trusted}.pem"))
    said = wait_until(lambda: refusing.status().get("last_error"), "it to say why")
    assert "certificate" in said.lower()
    assert node.providers() == []


def test_half_a_certificate_is_said_in_a_sentence(pki, tmp_path):
    for cert, key in (("server.pem", "authority.key"), ("absent.pem", "server.key"), ("server.key", "server.key")):
        (tmp_path / "bad.toml").write_text(f'[server]\nport = 0\ntls_cert = "{pki / cert}"\ntls_key = "{pki / key}"\n[data]\ndir = "{tmp_path / "data"}"\n')
        answer = coordinator_command(tmp_path, "--config", "bad.toml")
        assert answer.returncode not in (0, -6, -11), (cert, key)
        assert "server." in answer.stderr or "certificate" in answer.stderr.lower() or "key" in answer.stderr.lower(), answer.stderr
