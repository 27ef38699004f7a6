"""Rows of the class `secrets`: what must be found, and what only looks like it."""

# ruff: noqa: E501 (tables: one row, one line)

from __future__ import annotations

import base64
import json
from random import Random

from . import secret_shapes as s
from .checkdigits import B62
from .forms import Sample, fill
from .secret_shapes import B64, HEX, LOWER, UPPER32, URL64, Shape, like, pick, some, with_crc

# {n}: the name of the setting
_ANY = (
    "export {n}={v}",
    "# .env\nLOG_LEVEL=info\n{n}={v}\nPORT=8080\n",
    'client = Client(token="{v}", timeout=30)',
    "hey, use this one until Friday, then I rotate it: {v} ok?",
    "Der Schlüssel für die Testumgebung ist {v}, bitte nicht weitergeben.",
    "Voici la clé de production : {v} (à ne pas partager).",
    "La clave nueva es {v} y la vieja ya no funciona.",
    "本番用のキーは {v} です。共有しないでください。",
    "Вот ключ для сервера: {v}, старый я удалил.",
    "2025-03-11T09:14:22Z DEBUG http.client: send header Authorization: Bearer {v}",
    "services:\n  worker:\n    environment:\n      - {n}={v}\n      - TZ=UTC\n",
    '{"service":"ingest","token":"{v}","ttl":3600}',
    "curl -sS -H 'Authorization: Bearer {v}' https://api.varnhall.net/v1/items",
    'variable "token" {\n  default = "{v}"\n}\n',
    "Subject: access\n\nHi Maren,\n\nhere is the token you asked for:\n{v}\n\nBest\nTomás\n",
    "const TOKEN = '{v}'; // TODO move to vault",
    "@dev can you check why {v} gives 401?",
)

_MULTI = (
    "{v}\n",
    "cat > /root/server.key <<EOF\n{v}\nEOF\n",
    "Hallo, im Anhang der Schlüssel:\n\n{v}\n\nGruß, Jule",
    "apiVersion: v1\nkind: Secret\nstringData:\n  tls.key: |\n{v}\n",
    "Why does this key not load?\n```\n{v}\n```",
)

_TOKENS: tuple[tuple[str, str, Shape], ...] = (
    ("aws_access_key", "AWS_ACCESS_KEY_ID", like("AK|IA", UPPER32, 16)),
    ("aws_access_key", "AWS_ACCESS_KEY_ID", like("AK|IA", UPPER32, 16)),
    ("aws_temporary_key", "AWS_ACCESS_KEY_ID", like("AS|IA", UPPER32, 16)),
    ("gcp_api_key", "GOOGLE_API_KEY", like("AI|zaSy", URL64, 33)),
    ("gcp_api_key", "GEMINI_API_KEY", like("AI|zaSy", URL64, 33)),
    ("google_oauth_secret", "GOOGLE_CLIENT_SECRET", like("GOC|SPX-", URL64, 28)),
    ("google_oauth_token", "GOOGLE_TOKEN", like("ya|29.a0", URL64, 160)),
    ("azure_app_secret", "AZURE_CLIENT_SECRET", s.azure_app),
    ("github_classic", "GITHUB_TOKEN", with_crc("gh|p_")),
    ("github_classic", "GH_TOKEN", with_crc("gh|p_")),
    ("github_oauth", "GH_OAUTH", with_crc("gh|o_")),
    ("github_user_app", "GH_USER_TOKEN", with_crc("gh|u_")),
    ("github_server_app", "GITHUB_TOKEN", with_crc("gh|s_")),
    ("github_refresh", "GH_REFRESH", with_crc("gh|r_")),
    ("github_fine_grained", "GITHUB_PAT", s.github_fine),
    ("gitlab_personal", "GITLAB_TOKEN", like("gl|pat-", URL64, 20)),
    ("gitlab_deploy", "DEPLOY_TOKEN", like("gl|dt-", URL64, 20)),
    ("gitlab_runner", "RUNNER_TOKEN", like("gl|rt-", URL64, 20)),
    ("gitlab_trigger", "TRIGGER_TOKEN", like("gl|ptt-", HEX, 40)),
    ("openai_legacy", "OPENAI_API_KEY", s.openai_old),
    ("openai_project", "OPENAI_API_KEY", s.openai_project),
    ("anthropic", "ANTHROPIC_API_KEY", like("sk-|ant-api03-", URL64, 93, "AA")),
    ("anthropic", "ANTHROPIC_API_KEY", like("sk-|ant-api03-", URL64, 93, "AA")),
    ("anthropic_admin", "ANTHROPIC_ADMIN_KEY", like("sk-|ant-admin01-", URL64, 93, "AA")),
    ("huggingface", "HF_TOKEN", like("h|f_", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 34)),
    ("groq", "GROQ_API_KEY", like("gs|k_", B62, 52)),
    ("openrouter", "OPENROUTER_API_KEY", like("sk-|or-v1-", HEX, 64)),
    ("replicate", "REPLICATE_API_TOKEN", like("r|8_", B62, 37)),
    ("xai", "XAI_API_KEY", like("xa|i-", B62, 80)),
    ("stripe_live", "STRIPE_SECRET_KEY", like("sk_|live_", B62, 24)),
    ("stripe_live_long", "STRIPE_SECRET_KEY", like("sk_|live_51", B62, 97)),
    ("stripe_restricted", "STRIPE_KEY", like("rk_|live_", B62, 24)),
    ("stripe_webhook", "STRIPE_WEBHOOK_SECRET", like("wh|sec_", B62, 32)),
    ("square_token", "SQUARE_ACCESS_TOKEN", like("EA|AA", URL64, 60)),
    ("square_secret", "SQUARE_SECRET", like("sq0|csp-", URL64, 43)),
    ("paypal_token", "PAYPAL_TOKEN", s.paypal),
    ("shopify", "SHOPIFY_TOKEN", like("shp|at_", HEX, 32)),
    ("slack_bot", "SLACK_BOT_TOKEN", s.slack_bot),
    ("slack_bot", "SLACK_BOT_TOKEN", s.slack_bot),
    ("slack_user", "SLACK_TOKEN", s.slack_user),
    ("discord_bot", "DISCORD_TOKEN", s.discord_bot),
    ("telegram_bot", "TELEGRAM_BOT_TOKEN", s.telegram_bot),
    ("telegram_bot", "TG_TOKEN", s.telegram_bot),
    ("sendgrid", "SENDGRID_API_KEY", s.sendgrid),
    ("sendgrid", "SENDGRID_API_KEY", s.sendgrid),
    ("mailgun", "MAILGUN_API_KEY", like("ke|y-", HEX, 32)),
    ("npm", "NPM_TOKEN", with_crc("np|m_")),
    ("npm", "NODE_AUTH_TOKEN", with_crc("np|m_")),
    ("pypi", "TWINE_PASSWORD", s.pypi),
    ("pypi", "PYPI_TOKEN", s.pypi),
    ("digitalocean", "DO_TOKEN", like("do|p_v1_", HEX, 64)),
    ("databricks", "DATABRICKS_TOKEN", like("da|pi", HEX, 32)),
    ("vault", "VAULT_TOKEN", like("hv|s.CAES", URL64, 90)),
    ("grafana", "GRAFANA_TOKEN", s.grafana),
    ("linear", "LINEAR_API_KEY", like("lin_|api_", B62, 40)),
    ("newrelic", "NEW_RELIC_API_KEY", like("NR|AK-", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 27)),
    ("docker", "DOCKER_TOKEN", like("dckr_|pat_", URL64, 27)),
    ("airtable", "AIRTABLE_PAT", s.airtable),
    ("terraform_cloud", "TFC_TOKEN", s.terraform),
    ("facebook", "FB_TOKEN", s.facebook),
    ("age", "SOPS_AGE_KEY", like("AGE-|SECRET-KEY-1", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    ("jwt", "SESSION_JWT", s.jwt),
    ("jwt", "ACCESS_TOKEN", s.jwt),
    ("jwt", "ID_TOKEN", s.jwt),
    ("jwt", "SERVICE_JWT", s.jwt),
)

_KEYS: tuple[tuple[str, Shape], ...] = (
    ("pem_rsa", s.pem_rsa),
    ("pem_rsa", s.pem_rsa),
    ("pem_rsa_encrypted", s.pem_rsa_locked),
    ("pem_pkcs8", s.pem_pkcs8),
    ("pem_pkcs8", s.pem_pkcs8),
    ("pem_ed25519", s.pem_ed25519),
    ("pem_ec", s.pem_ec),
    ("pem_ec", s.pem_ec),
    ("pem_dsa", s.pem_dsa),
    ("ssh_openssh", s.openssh),
    ("ssh_openssh", s.openssh),
    ("ssh_openssh", s.openssh),
    ("pgp_private", s.pgp),
)


def _word(n: int) -> Shape:
    return lambda rng: some(rng, B62, n)


def _hex(n: int) -> Shape:
    return lambda rng: some(rng, HEX, n)


def _human(rng: Random) -> str:
    """What people make up: two words, a number, a mark."""
    words = ["Kestrel", "granite", "Maple", "harbour", "Velvet", "tundra", "Copper", "lantern", "Orchid", "saddle"]
    rng.shuffle(words)
    return f"{words[0]}{pick(rng, list('-_!+'))}{words[1]}{rng.randrange(10, 9999)}{pick(rng, list('!*'))}"


_WITH_CONTEXT: tuple[tuple[str, str, Shape], ...] = (
    (
        "aws_secret_key",
        "[default]\naws_access_key_id = {AKIA}\naws_secret_access_key = {v}\nregion = eu-central-1\n",
        s.aws_secret,
    ),
    ("aws_secret_key", "AWS_SECRET_ACCESS_KEY={v}", s.aws_secret),
    ("aws_secret_key", '{"AccessKeyId":"{AKIA}","SecretAccessKey":"{v}","Region":"us-east-1"}', s.aws_secret),
    ("aws_secret_key", "my aws secret access key is {v} — why does S3 say SignatureDoesNotMatch?", s.aws_secret),
    ("aws_session_token", "export AWS_SESSION_TOKEN={v}", lambda r: "IQoJb3JpZ2luX2Vj" + some(r, B64, 280)),
    (
        "azure_storage",
        "DefaultEndpointsProtocol=https;AccountName=tillmarkdocs;AccountKey={v};EndpointSuffix=core.windows.net",
        s.azure_key,
    ),
    (
        "azure_storage",
        'blob = BlobServiceClient.from_connection_string("DefaultEndpointsProtocol=https;AccountName=vhlogs;AccountKey={v};EndpointSuffix=core.windows.net")',
        s.azure_key,
    ),
    (
        "azure_service_bus",
        "Endpoint=sb://vh-orders.servicebus.windows.net/;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey={v}",
        lambda r: s.b64(s.raw(r, 32)),
    ),
    ("azure_cosmos", "AccountEndpoint=https://vh-cosmos.documents.azure.com:443/;AccountKey={v};", s.azure_key),
    (
        "azure_sas",
        "https://vhlogs.blob.core.windows.net/raw/a.csv?sv=2023-11-03&ss=b&srt=sco&sp=rl&se=2026-01-31T00:00:00Z&sig={v}",
        lambda r: s.b64(s.raw(r, 32)).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    ),
    ("twilio_auth", "TWILIO_ACCOUNT_SID={AC}\nTWILIO_AUTH_TOKEN={v}\n", _hex(32)),
    ("twilio_secret", "TWILIO_API_KEY_SID={SK}\nTWILIO_API_KEY_SECRET={v}\n", _word(32)),
    ("datadog", "datadog:\n  site: datadoghq.eu\n  api_key: {v}\n", _hex(32)),
    ("slack_webhook", 'curl -X POST -d \'{"text":"deployed"}\' {v}', s.slack_hook),
    ("slack_webhook", "SLACK_WEBHOOK_URL={v}", s.slack_hook),
    ("discord_webhook", "notify:\n  discord: {v}\n", s.discord_hook),
    ("paypal_secret", "PAYPAL_CLIENT_SECRET={v}", lambda r: "E" + some(r, URL64, 79)),
    ("discord_secret", "discord client_secret: {v}", lambda r: some(r, URL64, 32)),
    ("npmrc", "//registry.varnhall.net/:_authToken={v}\nalways-auth=true\n", s.uuid4),
    ("heroku", "HEROKU_API_KEY={v}", s.uuid4),
    ("cloudflare", "CLOUDFLARE_API_TOKEN={v}", lambda r: some(r, URL64, 40)),
    ("postgres", "DATABASE_URL=postgres://billing:{v}@db1.varnhall.net:5432/billing?sslmode=require", s.password),
    ("postgres", "psycopg.connect('postgresql://svc_report:{v}@pg.tillmark.net/reports')", s.password),
    ("mysql", "mysql://shop:{v}@mysql-3.tillmark.net:3306/shop", _word(18)),
    ("mongodb", "mongodb+srv://appuser:{v}@cluster0.k2vh1.mongodb.net/prod?retryWrites=true&w=majority", _word(16)),
    ("redis", "REDIS_URL=rediss://default:{v}@cache.varnhall.net:6380/0", _word(24)),
    ("amqp", "broker_url = 'amqps://worker:{v}@mq.tillmark.net:5671/jobs'", _word(20)),
    (
        "mssql",
        "Server=tcp:vh-sql.database.windows.net,1433;Database=crm;User ID=crmadmin;Password={v};Encrypt=True;",
        s.password,
    ),
    ("jdbc", "jdbc:sqlserver://sql2.tillmark.net;databaseName=hr;user=hr_ro;password={v};encrypt=true", _word(16)),
    ("git_url", "git clone https://ci-bot:{v}@git.varnhall.net/core/engine.git", _word(26)),
    ("ftp_url", "wget ftp://upload:{v}@ftp.tillmark.net/in/day.csv", _human),
    (
        "basic_header",
        "GET /v1/orders HTTP/1.1\nHost: api.varnhall.net\nAuthorization: Basic {v}\n\n",
        lambda r: s.b64(f"svc-orders:{s.password(r)}".encode()),
    ),
    (
        "bearer_opaque",
        "> Authorization: Bearer {v}\n> Accept: application/json\n< HTTP/2 200\n",
        lambda r: some(r, URL64, 48),
    ),
    ("netrc", "machine git.varnhall.net\n  login tomas\n  password {v}\n", s.password),
    ("pgpass", "PGPASSWORD={v} psql -h db1.varnhall.net -U billing", s.password),
    (
        "docker_auth",
        '{"auths":{"registry.varnhall.net":{"auth":"{v}"}}}',
        lambda r: s.b64(f"puller:{some(r, B62, 24)}".encode()),
    ),
    ("generic_api_key", 'api_key = "{v}"', _word(32)),
    ("generic_api_key", '{"apiKey":"{v}","region":"eu"}', _hex(40)),
    ("generic_api_key", "X-Api-Key: {v}", lambda r: some(r, URL64, 40)),
    ("generic_secret", "client_id: portal-web\nclient_secret: {v}\n", _word(40)),
    ("generic_secret", "SECRET_KEY = '{v}'  # django", lambda r: some(r, LOWER + "!@#$%^&*(-_=+)", 50)),
    ("generic_secret", "jwt:\n  signing-secret: {v}\n", _hex(64)),
    ("generic_secret", "webhook secret is {v}, set it in the dashboard", _word(32)),
    ("generic_token", "access_token={v}", _word(64)),
    ("generic_token", 'refresh_token: "{v}"', lambda r: some(r, URL64, 86)),
    ("generic_token", "Le jeton d'accès (token) : {v}", _word(40)),
    ("generic_password", "password: {v}", s.password),
    ("generic_password", "db.password={v}\ndb.pool=8\n", s.password),
    ("generic_password", "Das Passwort für den VPN-Zugang lautet {v}", s.password),
    ("generic_password", "Le mot de passe est : {v}", s.password),
    ("generic_password", "usuario: mvega\ncontraseña: {v}\n", s.password),
    ("generic_password", "hasło do serwera: {v}", s.password),
    ("generic_password", "пароль: {v}", s.password),
    ("generic_password", "パスワード: {v}", s.password),
    ("human_password", "wifi for the office, password: {v} (capital letters matter)", _human),
    ("human_password", '{"username":"ines.moreau","password":"{v}"}', _human),
    ("human_password", "sshpass -p '{v}' ssh ops@bastion.varnhall.net", _human),
    (
        "kubernetes_secret",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ntype: Opaque\ndata:\n  password: {v}\n",
        lambda r: s.b64(s.password(r).encode()),
    ),
    ("private_key_hex", "ETH_PRIVATE_KEY=0x{v}", _hex(64)),
    ("encryption_key", "encryption_key: {v}", lambda r: s.b64(s.raw(r, 32))),
)


def _gcp_account(rng: Random) -> Sample:
    account = {
        "type": "service_account",
        "project_id": f"vh-{some(rng, LOWER, 6)}",
        "private_key_id": some(rng, HEX, 40),
        "private_key": "@@",
        "client_email": "ingest@vh-data.iam.gserviceaccount.com",
        "client_id": some(rng, "123456789", 21),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    before, after = json.dumps(account, indent=2).split("@@")
    return Sample("gcp_service_account", before, json.dumps(s.pem_pkcs8(rng) + "\n")[1:-1], after)


def positives(rng: Random) -> list[Sample]:
    out = []
    for i, (kind, name, shape) in enumerate(_TOKENS):
        out.append(fill(kind, _ANY[(i * 5 + 3) % len(_ANY)].replace("{n}", name), shape(rng)))
    for i, (kind, shape) in enumerate(_KEYS):
        out.append(fill(kind, _MULTI[i % len(_MULTI)], shape(rng)))
    for kind, template, shape in _WITH_CONTEXT:
        made = template.replace("{AKIA}", "AK" + "IA" + some(rng, UPPER32, 16))
        for sid in ("AC", "SK"):
            made = made.replace(f"{{{sid}}}", sid + some(rng, HEX, 32))
        out.append(fill(kind, made, shape(rng)))
    out += [_gcp_account(rng) for _ in range(3)]
    return out


def _sri(rng: Random) -> str:
    name, n = pick(rng, [("sha256", 32), ("sha384", 48), ("sha512", 64)])
    return f"{name}-{s.b64(s.raw(rng, n))}"


def _jwt_like(rng: Random) -> str:
    """Three base64url parts, the first of them no JSON."""
    head = pick(rng, [s.raw(rng, 27), b'{"' + s.raw(rng, 25)])
    return ".".join(s.url64(p) for p in (head, s.raw(rng, 60), s.raw(rng, 32)))


def _prose64(rng: Random) -> str:
    lines = (
        "The shipment left the harbour on Tuesday and arrives next week.",
        "Bonjour à tous, la réunion est reportée à jeudi.",
    )
    return base64.b64encode(pick(rng, lines).encode()).decode()


_HASH40, _HASH64, _HASH32 = _hex(40), _hex(64), _hex(32)

_NEAR: tuple[tuple[str, str, Shape], ...] = (
    (
        "git_sha",
        "commit {v}\nAuthor: Jule Harms\nDate:   Tue Mar 11 09:14:22 2025 +0100\n\n    fix rounding of totals\n",
        _HASH40,
    ),
    ("git_sha", "Reverts {v}, see the discussion in the pull request.", _HASH40),
    ("git_sha", "actions/checkout@{v} # v4.1.7", _HASH40),
    ("git_sha", "Der Fehler ist seit {v} im Hauptzweig.", _HASH40),
    ("git_sha", "index 3f1c2aa..{v} 100644\n--- a/app.py\n+++ b/app.py\n", _hex(7)),
    ("uuid", "request_id={v} status=200 took=31ms", s.uuid4),
    ("uuid", '{"order":{"id":"{v}","total":"19.90","currency":"EUR"}}', s.uuid4),
    ("uuid", "Idempotency-Key: {v}", s.uuid4),
    ("uuid", "INSERT INTO users (primary_key, name) VALUES ('{v}', 'Noor');", s.uuid4),
    ("uuid", "El identificador del pedido es {v}", s.uuid4),
    ("sri", '<script src="https://cdn.varnhall.net/a.js" integrity="{v}" crossorigin="anonymous"></script>', _sri),
    ("sri", '"node_modules/left-align": {"version": "1.3.0", "integrity": "{v}"}', _sri),
    ("sri", 'left-align@^1.3.0:\n  version "1.3.0"\n  integrity {v}\n', _sri),
    ("go_sum", "golang.org/x/text v0.14.0 h1:{v}", lambda r: s.b64(s.raw(r, 32))),
    ("pip_hash", "certifi==2024.2.2 --hash=sha256:{v}", _HASH64),
    ("docker_digest", "FROM python:3.13-slim@sha256:{v}", _HASH64),
    ("docker_digest", "image: registry.varnhall.net/core/engine@sha256:{v}", _HASH64),
    ("checksum", "{v}  release-2.4.1.tar.gz", _HASH64),
    ("checksum", "MD5 ({v}) = backup.zip", _HASH32),
    ("checksum", "cache key: pip-Linux-3.13-{v}", _HASH64),
    ("etag", 'HTTP/1.1 304 Not Modified\nETag: "{v}"\nCache-Control: max-age=60\n', _HASH32),
    ("trace_id", "traceparent: 00-{v}-00f067aa0ba902b7-01", _HASH32),
    ("trace_id", "2025-03-11 09:14:22 INFO [trace={v}] order accepted", _HASH32),
    ("ulid", "event 01{v} delivered to 3 consumers", lambda r: some(r, "0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24)),
    ("png", '<img alt="logo" src="data:image/png;base64,{v}">', s.png),
    ("png", ".icon { background: url(data:image/png;base64,{v}) no-repeat; }", s.png),
    ("png", '{"type":"image","source":{"type":"base64","media_type":"image/png","data":"{v}"}}', s.png),
    (
        "font",
        "@font-face{font-family:x;src:url(data:font/woff2;base64,{v})}",
        lambda r: "d09GMgABAAAAA" + some(r, B64, 219),
    ),
    ("public_key", "{v}\n", s.pem_public),
    ("public_key", "Our webhook signing public key:\n{v}\n", s.pem_public),
    ("certificate", "ssl_certificate:\n{v}\n", s.pem_certificate),
    ("certificate", "Hier das neue Zertifikat:\n{v}\n", s.pem_certificate),
    ("certificate_request", "please sign this:\n{v}\n", s.pem_request),
    ("pgp_public", "{v}\n", s.pgp_public),
    ("ssh_public", "{v} jule@laptop", s.ssh_public),
    ("ssh_public", "add this to authorized_keys: {v} ci-runner", s.ssh_public),
    ("ssh_known_host", "git.varnhall.net {v}", s.ssh_public),
    ("ssh_fingerprint", "ED25519 key fingerprint is SHA256:{v}.", lambda r: s.b64(s.raw(r, 32)).rstrip("=")),
    (
        "stripe_publishable",
        "const stripe = Stripe('{v}'); // publishable, ships to the browser",
        like("pk_|live_", B62, 24),
    ),
    ("jwt_like", "blob={v} size=119", _jwt_like),
    ("jwt_like", "The file name is {v}.bin", _jwt_like),
    ("jwt_like", "parse error: {v} is not a JWT, its header is no JSON", _jwt_like),
    ("prose_base64", "Content-Transfer-Encoding: base64\n\n{v}\n", _prose64),
    ("prose_base64", "what does {v} say when decoded?", _prose64),
    (
        "minified",
        "{v}",
        lambda r: (
            "!function(e,t){var n={};function o(r){if(n[r])return n[r].exports;var i=n[r]={i:r,l:!1,exports:{}};return e[r].call(i.exports,i,i.exports,o),i.l=!0,i.exports}o.token=t}([],0);"
        ),
    ),
    ("asset_name", '<link rel="stylesheet" href="/assets/index-{v}.css">', _word(8)),
    ("css_module", '<div class="Button_primary__{v} Card_header__a8Zk2">', _word(5)),
)

_FIXED: tuple[tuple[str, str], ...] = (
    ("placeholder", "aws_access_key_id = {v}|AKIA|IOSFODNN7EXAMPLE"),
    ("placeholder", "aws_secret_access_key = {v}|wJalrXUtnFEMI/K7MDENG/bPxRfiCY|EXAMPLEKEY"),
    ("placeholder", "export AWS_ACCESS_KEY_ID={v}|AKIA|XXXXXXXXXXXXXXXX"),
    ("placeholder", "OPENAI_API_KEY={v}|your-api|-key-here"),
    ("placeholder", 'client = OpenAI(api_key="{v}")|sk-|xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'),
    ("placeholder", "ANTHROPIC_API_KEY={v}|sk-ant-|..."),
    ("placeholder", "GITHUB_TOKEN={v}|ghp_|xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
    ("placeholder", "curl -H 'Authorization: Bearer {v}' https://api.varnhall.net/v1|<YOUR|_TOKEN>"),
    ("placeholder", "stripe.api_key = '{v}'|sk_live_|REPLACE_ME"),
    ("placeholder", "SLACK_BOT_TOKEN={v}|xoxb-|your-token-here"),
    ("placeholder", "password: {v}|your-pass|word-here"),
    ("placeholder", "contraseña: {v}|<tu-contra|seña>"),
    ("placeholder", "api_key: {v}|INSERT_API|_KEY_HERE"),
    ("placeholder", "HF_TOKEN={v}|hf_|********************"),
    ("placeholder", "postgres://user:{v}@host:5432/db|<pass|word>"),
    ("masked", "using key {v} from profile prod|sk-...|9fQ2"),
    ("masked", "AWS_SECRET_ACCESS_KEY={v}|********|********"),
    ("masked", "Authorization: Bearer {v}|[REDAC|TED]"),
    ("reference", "password = {v}|os.environ|['DB_PASSWORD']"),
    ("reference", "DATABASE_URL=postgres://billing:{v}@db1:5432/billing|${DB_|PASSWORD}"),
    ("reference", "token: {v}|${{ secrets.|GITHUB_TOKEN }}"),
    ("reference", "apiKey: {v},|process.env.|OPENAI_API_KEY"),
    ("reference", "secretKeyRef:\n  name: {v}\n  key: password\n|billing-db-|credentials"),
    ("reference", 'client_secret = {v}|vault_read("kv/prod/|portal")["client_secret"]'),
    ("reference", "aws secretsmanager get-secret-value --secret-id {v}|prod/billing/|database-password"),
    (
        "code",
        "{v}|def get_access_token(user: User) -> Token:|\n    return token_store.fetch(user.id, kind=TokenKind.ACCESS)",
    ),
    ("code", "{v}|if (password.length < 12) { throw new Error|('password_too_short_for_policy'); }"),
    ("code", '{v}|tokenizer = AutoTokenizer.from_pretrained(|"bert-base-multilingual-cased")'),
    ("code", '{"model":"m-large",{v}|"max_tokens":4096,|"stop":["<END>"],"token_count":118}'),
    ("prose", "{v}|The secret of a good sauce is patience; the key is to keep |the heat low for a long time."),
    ("prose", "{v}|Ihr Passwort muss mindestens zwölf Zeichen und ein |Sonderzeichen enthalten."),
    ("prose", "{v}|Votre mot de passe a été réinitialisé, un lien vous a |été envoyé."),
    ("prose", "{v}|パスワードを忘れた場合は、管理者に|連絡してください。"),
    ("prose", "{v}|Please rotate the API key every ninety days and never |paste a token in chat."),
    ("log", "2025-03-11 09:14:22 WARN auth: {v}|invalid token for user noor: |token_expired_or_revoked"),
    ("log", "{v}|error: secret 'billing-db-credentials-v2' |not found in namespace payments"),
    ("alphabet", "ALPHABET = '{v}'|ABCDEFGHIJKLMNOPQRSTUVWXYZ|abcdefghijklmnopqrstuvwxyz0123456789+/"),
    ("name", "{v}|arn:aws:iam::aws:policy/|AmazonS3ReadOnlyAccess"),
    ("name", "package {v};|com.varnhall.billing.infrastructure.|persistence.RepositoryConfiguration"),
    ("path", 'Traceback: File "{v}", line 88|/usr/lib/python3/dist-packages/|secretstorage/collection.py'),
    ("pem_words", "The file must begin with {v}, then the base64 follows.|-----BEGIN |RSA PRIVATE KEY-----"),
)


def near_misses(rng: Random) -> list[Sample]:
    out = [fill(kind, template, shape(rng)) for kind, template, shape in _NEAR]
    out += [fill(kind, template, shape(rng)) for kind, template, shape in _NEAR[:24]]  # once more, with other values
    for kind, row in _FIXED:
        template, *parts = row.split("|")
        out.append(fill(kind, template, "".join(parts)))
    return out
