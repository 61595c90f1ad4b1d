"""The types of single fields: each takes what YAML gave and keeps its one canonical form, or refuses it.

Each type also says how it looks in the JSON Schema, as editors know it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from ztproxy.config import addresses, references
from ztproxy.config.addresses import Bind, IpNetwork
from ztproxy.config.references import FileReference, SecretReference
from ztproxy.config.refusal import private, refused, text_of


@dataclass(frozen=True, slots=True)
class Like:
    """Text of one shape; editors get the same pattern from the schema."""

    pattern: str
    message: str

    def check(self, value: object) -> str:
        text = text_of(value)
        if not re.fullmatch(self.pattern, text, re.ASCII):
            raise refused(self.message)
        return text

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{self.pattern}$"}


def _context_base(info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("base", "."))


def _file(value: object, info: ValidationInfo) -> FileReference:
    try:
        return references.file_reference(value, _context_base(info))
    except references.Unresolvable as error:
        raise private(str(error)) from None


def _secret(value: object, info: ValidationInfo) -> SecretReference:
    try:
        return references.secret_reference(value, _context_base(info))
    except references.Unresolvable as error:
        raise private(str(error)) from None


def _key_set(value: object, info: ValidationInfo) -> FileReference | str:
    if isinstance(value, str) and value.startswith(("http:", "https:")):
        return addresses.protected_url(value, "`file:<path>` or a URL")
    return _file(value, info)


def _path(value: object, info: ValidationInfo) -> Path:
    text = text_of(value)
    if re.match(r"[a-z][a-z0-9]+:", text):
        raise refused("must be a plain path, without `" + text.partition(":")[0] + ":`")
    try:
        return references.located(text, _context_base(info))
    except references.Unresolvable as error:
        raise refused(str(error)) from None


def _exact(value: str) -> str:
    if not value.strip():
        raise private("must not be empty")
    if "*" in value:
        raise refused("is compared exactly; `*` has no meaning here")
    return value


def _nonempty(value: str) -> str:
    if not value.strip():
        raise private("must not be empty")
    return value


def _spiffe_id(value: object) -> str:
    text = _exact(text_of(value))
    if not re.fullmatch(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+", text):
        raise refused("must be a SPIFFE ID, `spiffe://<trust domain>/<path>`")
    return text


_STRING: Final[dict[str, Any]] = {"type": "string"}

Text = Annotated[
    str, PlainValidator(lambda value: _nonempty(text_of(value))), WithJsonSchema({**_STRING, "minLength": 1})
]
ExactText = Annotated[
    str, PlainValidator(lambda value: _exact(text_of(value))), WithJsonSchema({**_STRING, "minLength": 1})
]
SpiffeId = Annotated[str, PlainValidator(_spiffe_id), WithJsonSchema({**_STRING, "pattern": "^spiffe://"})]
Name = Annotated[
    str,
    Like(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        "must be 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit",
    ),
]
ApiId = Annotated[
    str, Like(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "must be an API id: 1 to 64 letters, digits, `.`, `_` or `-`")
]
Stage = Annotated[str, Like(r"[A-Za-z0-9$_-]{1,128}", "must be a stage: 1 to 128 letters, digits, `$`, `_` or `-`")]
Partition = Annotated[str, Like(r"aws(-[a-z]+)*", "must be a partition, such as `aws` or `aws-cn`")]
Region = Annotated[str, Like(r"[a-z]{2,}(-[a-z0-9]+)+", "must be a region, such as `eu-west-1`")]
Account = Annotated[str, Like(r"[0-9]{12}", "must be the 12 digits of an account")]
Service = Annotated[str, Like(r"[a-z0-9][a-z0-9-]{0,63}", "must be a service name, such as `execute-api`")]
VpceId = Annotated[str, Like(r"vpce-[0-9a-f]{8,17}", "must be the id of a VPC endpoint, `vpce-...`")]
VpcId = Annotated[str, Like(r"vpc-[0-9a-f]{8,17}", "must be the id of a VPC, `vpc-...`")]
TrustDomain = Annotated[
    str, Like(r"[a-z0-9._-]{1,255}", "must be a trust domain, such as `prod.example.com`, without `spiffe://`")
]
AccessKeyId = Annotated[str, Like(r"\w{8,128}", "must be 8 to 128 letters, digits or `_`")]
UserName = Annotated[str, Like(r"[\w+=,.@-]{1,64}", "must be an IAM user name: 1 to 64 letters, digits or `+=,.@_-`")]
PrincipalArn = Annotated[
    str,
    Like(r"arn:aws(-[a-z]+)*:(iam|sts):[^*:]*:[0-9]{12}:[^*]+", "must be the whole ARN of a principal, without `*`"),
]
Listen = Annotated[
    Bind, PlainValidator(addresses.bind), WithJsonSchema({**_STRING, "examples": ["127.0.0.1:8443", "[::1]:8443"]})
]
Network = Annotated[
    IpNetwork, PlainValidator(addresses.network), WithJsonSchema({**_STRING, "examples": ["10.0.0.0/16"]})
]
HostPattern = Annotated[str, PlainValidator(addresses.host_pattern), WithJsonSchema(_STRING)]
ServerName = Annotated[str, PlainValidator(addresses.server_name), WithJsonSchema(_STRING)]
CertificateName = Annotated[str, PlainValidator(addresses.certificate_name), WithJsonSchema(_STRING)]
RoutePath = Annotated[str, PlainValidator(lambda value: _nonempty(text_of(value))), WithJsonSchema(_STRING)]
IssuerUrl = Annotated[str, PlainValidator(addresses.issuer_url), WithJsonSchema({**_STRING, "format": "uri"})]
UpstreamUrl = Annotated[str, PlainValidator(addresses.upstream_url), WithJsonSchema({**_STRING, "format": "uri"})]
PemFile = Annotated[FileReference, PlainValidator(_file), WithJsonSchema({**_STRING, "pattern": "^file:"})]
Hidden = Annotated[SecretReference, PlainValidator(_secret), WithJsonSchema({**_STRING, "pattern": "^(file|env):"})]
KeySet = Annotated[
    FileReference | str, PlainValidator(_key_set), WithJsonSchema({**_STRING, "pattern": "^(file:|https?://)"})
]
FilePath = Annotated[Path, PlainValidator(_path), WithJsonSchema(_STRING)]


@dataclass(frozen=True, slots=True)
class NotEmpty:
    """A list of at least one, judged before its items, so that a wrong item is not called a missing one."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "minItems": 1}

    @staticmethod
    def check(value: object) -> object:
        if value == ():
            raise private("must not be empty")
        return value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise private(f"holds `{value}` twice")
    return values


NOT_EMPTY: Final = NotEmpty()
DISTINCT: Final = AfterValidator(_distinct)
