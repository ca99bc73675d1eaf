"""Sign with an Ed25519 key on a PKCS#11 token or HSM: a command for petaseal's --signer (docs/signing.md).

pip install python-pkcs11
PKCS11_MODULE   the token's library, such as /usr/lib/softhsm/libsofthsm2.so
PKCS11_TOKEN    label of the token
PKCS11_KEY      label of the private key
PKCS11_PIN      PIN of the token; asked for on the terminal where it is not set
"""

import os
import sys
from getpass import getpass

import pkcs11

message = sys.stdin.buffer.read()
pin = os.environ.get("PKCS11_PIN") or getpass(f"PIN, to sign as {os.environ['PETASEAL_KEYID'][:16]}: ")
token = pkcs11.lib(os.environ["PKCS11_MODULE"]).get_token(token_label=os.environ["PKCS11_TOKEN"])
with token.open(user_pin=pin) as session:
    key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=os.environ["PKCS11_KEY"])
    sys.stdout.buffer.write(key.sign(message, mechanism=pkcs11.Mechanism.EDDSA))
