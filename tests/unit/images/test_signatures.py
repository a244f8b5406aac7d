"""Keys, signatures and what a manifest says, with the real C2PA library."""

from __future__ import annotations

import asyncio
import datetime
import io
import os
import stat
import sys
from pathlib import Path

import c2pa
import pytest
from certificates import own_certificate
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hook_receiver import receiving
from pictures import quarters, saved

from imagegen.images.png import manifest_bytes, without_manifest
from imagegen.images.provenance import keys, reader
from imagegen.images.provenance.keys import KeyTrouble, OwnKeys
from imagegen.images.provenance.manifest import GENERATED, Facts
from imagegen.images.provenance.reader import Reader
from imagegen.images.provenance.report import Report, judge
from imagegen.images.provenance.signer import NO_LIBRARY, NotSigned, Signer
from imagegen.setting_values import SettingsError
from imagegen.settings import Settings

PNG = saved(quarters(), "PNG")
CREATED = [{"label": "c2pa.actions", "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": GENERATED}]}}]
DRAWN = Facts("drawn", {"model": "tiny", "seed": 3})


def sign(tmp_path: Path, facts: Facts = DRAWN, data: bytes = PNG, **settings: object) -> bytes:
    return Signer(Settings.model_validate({"home": tmp_path, **settings})).sign(data, "image/png", facts)


def report(data: bytes, anchors: bytes, media_type: str = "image/png") -> Report:
    return judge(asyncio.run(Reader().read(data, media_type, anchors)))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- keys ---------------------------------------------------------------------------------------


def test_the_services_keys_are_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "provenance"
    first, again = OwnKeys(folder).load(), OwnKeys(folder).load()
    assert first == again
    assert (mode(folder), mode(folder / "root.pem"), mode(folder / "signer.pem")) == (0o700, 0o600, 0o600)
    signer, root = x509.load_pem_x509_certificates(first.chain)
    signer.verify_directly_issued_by(root)
    assert b"PRIVATE" not in first.chain + first.anchors


class Clock:
    now = keys.utc_now()

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.mark.parametrize(
    ("later", "another_signer", "another_root"),
    [(keys.SIGNER_IN_USE - keys.SIGNER_IN_USE / 100, False, False), (keys.SIGNER_IN_USE, True, False),
     (keys.ROOT_LIFE - keys.SIGNER_LIFE, True, True)],
    ids=["in use", "a year later", "ten years later"],
)  # fmt: skip
def test_keys_are_renewed_before_they_expire(
    tmp_path: Path, later: datetime.timedelta, another_signer: bool, another_root: bool
) -> None:
    clock = Clock()
    first = OwnKeys(tmp_path / "keys", clock).load()
    clock.now += later
    then = OwnKeys(tmp_path / "keys", clock).load()
    (signer, root), (next_signer, next_root) = (x509.load_pem_x509_certificates(one.chain) for one in (first, then))
    assert (signer != next_signer, root != next_root) == (another_signer, another_root)
    assert root in x509.load_pem_x509_certificates(then.anchors), "what the first one signed stays this service's"
    assert next_signer.not_valid_after_utc <= next_root.not_valid_after_utc


def test_a_damaged_key_is_named_and_not_replaced(tmp_path: Path) -> None:
    OwnKeys(tmp_path / "keys").load()
    file = tmp_path / "keys" / "root.pem"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(KeyTrouble, match=r"root\.pem is damaged: restore it from a backup, or delete it"):
        OwnKeys(tmp_path / "keys").load()


def test_a_folder_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "provenance").write_text("")
    with pytest.raises(NotSigned, match=r"The keys in .*provenance cannot be used: File exists\."):
        sign(tmp_path)


# ---- the operator's certificate -----------------------------------------------------------------


@pytest.mark.parametrize(
    "key", [ec.SECP256R1(), ec.SECP384R1(), "rsa", "ed25519"], ids=["P-256", "P-384", "RSA", "Ed25519"]
)
def test_an_operators_certificate_signs(tmp_path: Path, key: ec.EllipticCurve | str) -> None:
    made = (
        ec.generate_private_key(key) if isinstance(key, ec.EllipticCurve)
        else rsa.generate_private_key(65537, 2048) if key == "rsa" else ed25519.Ed25519PrivateKey.generate()
    )  # fmt: skip
    certificate, private = own_certificate(tmp_path, made)
    signer = Signer(Settings(home=tmp_path, provenance_cert=certificate, provenance_key=private))
    signer.check()
    said = report(signer.sign(PNG, "image/png", DRAWN), signer.anchors())
    assert (said.verdict, said.by_this_service, said.signer) == ("intact", True, "Example")
    assert not (tmp_path / "provenance").exists()


BAD_CERTIFICATES: dict[str, tuple[dict[str, object], str]] = {
    "expired": ({"days": (-30, -1)}, r"chain\.pem expired on \d{4}-\d\d-\d\d"),
    "for another use": ({"usage": False}, "The picture could not be signed: Signature: the certificate is invalid"),
    "a key with a password": ({"password": "secret"}, r"key\.pem has a password\. Remove it: openssl pkey"),
}


@pytest.mark.parametrize("case", BAD_CERTIFICATES)
def test_a_certificate_that_cannot_sign_stops_the_start(tmp_path: Path, case: str) -> None:
    options, sentence = BAD_CERTIFICATES[case]
    certificate, key = own_certificate(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=f"IMAGEGEN_PROVENANCE_CERT: .*{sentence}") as refused:
        Signer(Settings(home=tmp_path, provenance_cert=certificate, provenance_key=key)).check()
    assert "PRIVATE" not in str(refused.value)


def test_files_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    certificate, key = own_certificate(tmp_path / "a")[0], own_certificate(tmp_path / "b")[1]
    for chosen, sentence in (
        (key, "does not belong to the first certificate of"),
        (certificate, "is not a PEM file with a certificate and its private key"),
        (tmp_path / "none.pem", "cannot be read: No such file"),
    ):
        with pytest.raises(KeyTrouble, match=sentence):
            keys.given(certificate, chosen)


# ---- signatures ---------------------------------------------------------------------------------


def test_a_chain_of_edits_stays_small(tmp_path: Path) -> None:
    png = sign(tmp_path)
    sizes = []
    for _ in range(8):
        png = sign(tmp_path, Facts("edited", {"model": "tiny", "seed": 1}, (png,)))
        sizes.append(manifest_bytes(png))
    assert max(sizes) < 20_000
    assert sorted(sizes) != sizes, "a chain that is too long begins anew"


def test_without_the_library_nothing_is_signed_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = sign(tmp_path)
    (tmp_path / "c2pa.py").write_text("raise ImportError('no wheel')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    said = report(signed, b"")
    assert (said.verdict, said.problems) == ("unreadable", (NO_LIBRARY,))
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(NotSigned, match=NO_LIBRARY):
        sign(tmp_path)


@pytest.mark.parametrize(("format", "media_type"), [("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_other_formats_are_signed(tmp_path: Path, format: str, media_type: str) -> None:
    signer = Signer(Settings(home=tmp_path))
    signed = signer.sign(saved(quarters(), format), media_type, DRAWN)
    said = report(signed, signer.anchors(), media_type)
    assert (said.verdict, said.by_this_service, said.drawing.seed) == ("intact", True, 3)


def test_another_services_picture_is_intact_and_not_ours(tmp_path: Path) -> None:
    theirs = sign(tmp_path / "theirs")
    ours = OwnKeys(tmp_path / "ours").load().anchors
    said = report(theirs, ours)
    assert (said.verdict, said.by_this_service, said.source_type) == ("intact", False, "trainedAlgorithmicMedia")
    assert said.generator is not None and said.generator.startswith("imagegen ")
    said = report(theirs, b"")
    assert (said.verdict, said.by_this_service) == ("intact", False), "without certificates of one's own nothing is"
    assert report(without_manifest(theirs), ours).verdict == "none"


# ---- hostile files ------------------------------------------------------------------------------


def test_a_manifest_at_an_address_is_not_fetched(tmp_path: Path) -> None:
    keyring = OwnKeys(tmp_path / "provenance").load()
    with receiving() as receiver:
        info = c2pa.C2paSignerInfo(b"es256", keyring.chain, keyring.key, None)
        definition = {"claim_generator_info": [{"name": "x"}], "format": "image/png", "assertions": CREATED}
        builder, signed = c2pa.Builder(definition), io.BytesIO()
        builder.set_remote_url(f"http://127.0.0.1:{receiver.port}/manifest")
        builder.set_no_embed()
        builder.sign(c2pa.Signer.from_info(info), "image/png", io.BytesIO(PNG), signed)
        said = report(signed.getvalue(), keyring.anchors)
        assert (said.verdict, said.problems) == (
            "unreadable", ("The manifest is not in the file but at an address, which is not fetched.",)
        )  # fmt: skip
        assert receiver.messages == []


def test_a_reader_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "DEADLINE_S", 0.0)
    said = report(sign(tmp_path), b"")
    assert (said.verdict, said.problems) == ("unreadable", ("It takes longer than 0 s to read.",))


def test_a_reader_without_memory_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that breaks, as on a manifest that unpacks to gigabytes, breaks nothing else."""
    monkeypatch.setattr(reader, "MEMORY_BYTES", 1 << 20)
    said = report(sign(tmp_path), b"")
    assert (said.verdict, said.problems) == (
        "unreadable", ("It is too large, or damaged in a way that breaks the reader.",)
    )  # fmt: skip
