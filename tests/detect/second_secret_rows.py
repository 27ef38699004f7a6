"""The secrets of the second labelled set, and what only looks like one; ⟦ and ⟧ stand around the value."""

import base64

from . import second_values as v

type Row = tuple[bool, str, str]
P, J, B, S, U = "plain", "json_escaped", "base64", "split_fields", "url_encoded"


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def leaks() -> list[Row]:
    """What a security reviewer would call a leak."""
    hs, rs = {"alg": "HS256", "typ": "JWT"}, {"alg": "RS256", "kid": v.pick(v.HEX, 12), "typ": "JWT"}
    claims: dict[str, object] = {"sub": "u_" + v.digits(7), "iss": "https://id.harrowgate.io", "exp": 1794960000}
    rows = [
        # clouds
        (P, f"[default]\naws_access_key_id = ⟦AKIA{v.pick(v.BASE32, 16)}⟧\naws_secret_access_key = {v.b64(30)}\n"),
        (P, f"boto3 keeps failing, I pass AccessKeyId=⟦AKIA{v.pick(v.BASE32, 16)}⟧, what is wrong with the region?"),
        (P, f"export AWS_SECRET_ACCESS_KEY=⟦{v.b64(30)}⟧ && terraform plan -out=tf.plan"),
        (S, f"here is the sts output: AccessKeyId ⟦ASIA{v.pick(v.BASE32, 16)}⟧ expires tonight"),
        (P, f"const maps = new Loader({{ apiKey: '⟦AIza{v.pick(v.URLSAFE, 35)}⟧', version: 'weekly' }});"),
        (U, f"https://maps.googleapis.com/maps/api/geocode/json?address=Turku&key=⟦AIza{v.pick(v.URLSAFE, 35)}⟧"),
        (P, f"client_secret: ⟦GOCSPX-{v.pick(v.URLSAFE, 28)}⟧\nredirect_uris:\n  - https://app.harrowgate.io/cb"),
        (
            J,
            f'{{"type": "service_account", "project_id": "pier-sandbox-4410", "private_key_id": "{v.pick(v.HEX, 40)}",'
            f' "private_key": "⟦{v.pem("PRIVATE KEY", 600)}⟧\\n"}}',
        ),
        (
            P,
            "AZURE_STORAGE_CONNECTION_STRING=DefaultEndpointsProtocol=https;AccountName=pierarchive;"
            f"AccountKey=⟦{v.b64(64)}⟧;EndpointSuffix=core.windows.net",
        ),
        (P, f"az login --service-principal -u {v.uuid()} -p ⟦{v.pick(v.ALNUM, 3)}8Q~{v.pick(v.URLSAFE, 34)}⟧ -t pier"),
        (B, f"doctl auth init -t ⟦dop_v1_{v.pick(v.HEX, 64)}⟧"),
        (P, f"HEROKU_API_KEY=⟦{v.uuid()}⟧ heroku ps:scale web=2 -a pier-staging"),
        (P, f'provider "cloudflare" {{\n  api_token = "⟦{v.pick(v.URLSAFE, 40)}⟧"\n}}'),
        (P, f"databricks configure --host https://adb-77120.4.azuredatabricks.net, token ⟦dapi{v.pick(v.HEX, 32)}⟧"),
        # version control and registries
        (P, f"remote: Support for password authentication was removed. I used ⟦{v.github('ghp_')}⟧ and it still fails"),
        (J, f'curl -H "Authorization: token ⟦{v.github("ghp_")}⟧" https://api.github.com/user/repos'),
        (P, f"GH_TOKEN=⟦github_pat_{v.pick(v.ALNUM, 22)}_{v.pick(v.ALNUM, 59)}⟧ gh pr list"),
        (S, f"oauth answer was access_token=⟦{v.github('gho_')}⟧&scope=repo&token_type=bearer"),
        (P, f"git clone https://x-access-token:⟦{v.github('ghs_')}⟧@github.com/harrowgate/ledger.git"),
        (U, f"PRIVATE-TOKEN: ⟦glpat-{v.pick(v.URLSAFE, 20)}⟧"),
        (P, f"gitlab-runner register --url https://git.pier.dev --token ⟦glrt-{v.pick(v.URLSAFE, 20)}⟧"),
        (P, f"//npm.registry.example/:_authToken=⟦npm_{v.pick(v.ALNUM, 36)}⟧\nalways-auth=true"),
        (P, f"[pypi]\nusername = __token__\npassword = ⟦pypi-AgEIcHlwaS5vcmc{v.pick(v.URLSAFE, 150)}⟧\n"),
        (B, f":rubygems_api_key: ⟦rubygems_{v.pick(v.HEX, 48)}⟧"),
        (P, f"echo ⟦dckr_pat_{v.pick(v.URLSAFE, 27)}⟧ | docker login -u pierbuild --password-stdin"),
        # model providers
        (P, f'client = OpenAI(api_key="⟦sk-proj-{v.pick(v.URLSAFE, 74)}T3BlbkFJ{v.pick(v.URLSAFE, 74)}⟧")'),
        (S, f"The old key was ⟦sk-{v.pick(v.ALNUM, 20)}T3BlbkFJ{v.pick(v.ALNUM, 20)}⟧, can you check its quota?"),
        (P, f"ANTHROPIC_API_KEY=⟦sk-ant-api03-{v.pick(v.URLSAFE, 93)}AA⟧\nMODEL=claude-3-5-haiku-latest"),
        (J, f"login(token='⟦hf_{v.pick(v.UPPER + v.LOWER, 34)}⟧')  # for the gated weights"),
        (P, f"groq: ⟦gsk_{v.pick(v.ALNUM, 52)}⟧"),
        (P, f"REPLICATE_API_TOKEN=⟦r8_{v.pick(v.ALNUM, 37)}⟧ python render.py --steps 30"),
        # payment, mail, messaging
        (P, f"stripe.api_key = '⟦sk_live_{v.pick(v.ALNUM, 24)}⟧'\nstripe.Charge.list(limit=3)"),
        (B, f"STRIPE_KEY=⟦sk_live_51{v.pick(v.ALNUM, 97)}⟧\n"),
        (P, f"Restricted key for the report job: ⟦rk_live_{v.pick(v.ALNUM, 24)}⟧ (rotate in May)"),
        (P, f"webhook signing secret ⟦whsec_{v.pick(v.ALNUM, 32)}⟧ goes into /etc/pier/hooks.env"),
        (P, f"X-Shopify-Access-Token: ⟦shpat_{v.pick(v.HEX, 32)}⟧"),
        (P, f"gateway = connect('⟦access_token$production${v.pick(v.DIGITS + v.LOWER, 16)}${v.pick(v.HEX, 32)}⟧')"),
        (J, f"SLACK_BOT_TOKEN=⟦xoxb-{v.digits(12)}-{v.digits(13)}-{v.pick(v.ALNUM, 24)}⟧\nSLACK_CHANNEL=#ops"),
        (
            P,
            f'curl -X POST -d \'{{"text":"deployed"}}\' https://hooks.slack.com/services/'
            f"⟦T0{v.pick(v.DIGITS + v.UPPER, 8)}/B0{v.pick(v.DIGITS + v.UPPER, 8)}/{v.pick(v.ALNUM, 24)}⟧",
        ),
        (P, f"app-level token ⟦xapp-1-A0{v.pick(v.DIGITS + v.UPPER, 9)}-{v.digits(13)}-{v.pick(v.HEX, 64)}⟧"),
        (P, f"bot = telebot.TeleBot('⟦{v.digits(10)}:AA{v.pick(v.URLSAFE, 33)}⟧')"),
        (U, f"https://discord.com/api/webhooks/⟦{v.digits(19)}/{v.pick(v.URLSAFE, 68)}⟧"),
        (P, f"SENDGRID_API_KEY='⟦SG.{v.pick(v.URLSAFE, 22)}.{v.pick(v.URLSAFE, 43)}⟧'"),
        (P, f"curl -s --user 'api:⟦key-{v.pick(v.HEX, 32)}⟧' https://api.mailgun.net/v3/mg.pier.dev/messages"),
        (P, f"mailchimp.setConfig({{ apiKey: '⟦{v.pick(v.HEX, 32)}-us14⟧', server: 'us14' }})"),
        (P, f"TWILIO_ACCOUNT_SID=AC{v.pick(v.HEX, 32)}\nTWILIO_AUTH_TOKEN=⟦{v.pick(v.HEX, 32)}⟧"),
        # platforms and tools
        (P, f"vault login ⟦hvs.CAESI{v.pick(v.URLSAFE, 90)}⟧"),
        (P, f"datasource auth: Bearer ⟦glsa_{v.pick(v.ALNUM, 32)}_{v.pick(v.HEX, 8)}⟧ against grafana.pier.dev"),
        (P, f"DD_API_KEY=⟦{v.pick(v.HEX, 32)}⟧ DD_SITE=datadoghq.eu datadog-agent run"),
        (B, f'{{"newrelic_api_key": "⟦NRAK-{v.pick(v.DIGITS + v.UPPER, 27)}⟧"}}'),
        (P, f"linear: Authorization: ⟦lin_api_{v.pick(v.ALNUM, 40)}⟧"),
        (P, f"newman run ledger.json --env-var apikey=⟦PMAK-{v.pick(v.HEX, 24)}-{v.pick(v.HEX, 34)}⟧"),
        (J, f"# created: 2026-02-11\n⟦AGE-SECRET-KEY-1{v.pick('QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L', 58)}⟧\n"),
        # private keys
        (P, "please convert this to PKCS8:\n⟦" + v.pem("RSA PRIVATE KEY", 900) + "⟧"),
        (P, "cat ~/.ssh/id_ed25519\n⟦" + v.pem("OPENSSH PRIVATE KEY", 270, b"openssh-key-v1\0") + "⟧\n"),
        (J, "tls.key: |\n⟦" + v.pem("EC PRIVATE KEY", 110) + "⟧"),
        (B, "⟦" + v.pem("PRIVATE KEY", 600) + "⟧\n"),
        (S, "key file follows ⟦" + v.pem("RSA PRIVATE KEY", 300) + "⟧ end of file"),
        (
            P,
            "⟦-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n"
            + "\n".join(v.b64(48) for _ in range(9))
            + "\n=q3Zt\n-----END PGP PRIVATE KEY BLOCK-----⟧",
        ),
        # JSON web tokens
        (P, f"Authorization: Bearer ⟦{v.jwt(hs, claims)}⟧"),
        (S, f"the id_token in my session is ⟦{v.jwt(rs, claims | {'email_verified': True}, 256)}⟧ why is it refused?"),
        (U, f"https://app.harrowgate.io/reset?token=⟦{v.jwt(hs, claims | {'scope': 'pw-reset'})}⟧"),
        # credentials in addresses and connection strings
        (P, f"DATABASE_URL=postgres://ledger:⟦{v.pick(v.ALNUM, 18)}⟧@db-3.pier.dev:5432/ledger?sslmode=require"),
        (J, f"mongodb+srv://reporting:⟦Tr4wler%21{v.pick(v.ALNUM, 8)}⟧@cluster0.q8xw2.mongodb.net/orders"),
        (P, f"CELERY_BROKER_URL = 'amqp://worker:⟦{v.pick(v.LOWER + v.DIGITS, 14)}⟧@mq.harrowgate.io:5671/prod'"),
        (P, f"redis-cli -u redis://:⟦{v.pick(v.ALNUM, 32)}⟧@cache-eu.pier.dev:6380/0 ping"),
        (P, "Server=tcp:sql-pier.database.windows.net,1433;Database=hr;User ID=hradmin;Password=⟦Kelp&Anchor#58⟧;"),
        (U, "jdbc:mysql://orders.harrowgate.io:3306/shop?user=shop_rw&password=⟦bR1ne-Cutter77⟧"),
        (P, "wget ftp://backup:⟦m0oringLine_93⟧@files.harrowgate.io/nightly/2026-11-02.tar.zst"),
        (P, f"Authorization: Basic ⟦{_basic('svc-export', 'Gr4vel!Harbour')}⟧\r\nHost: api.harrowgate.io"),
        # passwords next to a word that says so
        (P, "DB_HOST=db-3\nDB_USER=ledger\nDB_PASSWORD=⟦s7uRgeon.Quay.40⟧\n"),
        (P, "Hi, could you log in for me? user is tmarlow and the password is ⟦Winkle!Boat29⟧"),
        (J, "spring:\n  datasource:\n    username: 'pier'\n    password: '⟦hE\"rr1ng\\Net_5⟧'\n"),
        (P, "PGPASSWORD='⟦x9-Lantern-Mud⟧' pg_dump -h db-3 -U ledger ledger > /tmp/l.sql"),
        (P, "mysql -u root -p⟦Cobble7Stone!q⟧ -e 'show processlist'"),
        (S, "machine git.pier.dev login tove password ⟦ruddeR-8812-plank⟧ protocol https"),
        (P, "sshpass -p '⟦Gannet#2026wing⟧' ssh deploy@build-07 uptime"),
        (B, "ansible_user: deploy\nansible_become_password: ⟦Fjord4-Keel-Rope⟧\n"),
        (P, "Das Passwort für den Router lautet: ⟦Muschel_77Wind⟧, bitte nicht weitergeben."),
        (P, "La contraseña del panel es ⟦Marea.Baja#19⟧ y el usuario es admin."),
        (U, "Voici le mot de passe : ⟦Goeland!Quai62⟧ pour la base de test"),
        (P, 'network={\n  ssid="pier-guest"\n  psk="⟦eleven-grey-seals-7⟧"\n}'),
        (P, "<server><id>releases</id><username>ci</username><password>⟦d3ckHand*Oar⟧</password></server>"),
        (P, f"config.secret_key_base = '⟦{v.pick(v.HEX, 128)}⟧'"),
        (P, f"const JWT_SECRET = \"⟦{v.pick(v.ALNUM, 40)}⟧\"; app.use(session({{ name: 'pier' }}));"),
    ]
    return [(True, form, text) for form, text in rows]


def near_misses() -> list[Row]:
    """Placeholders, references, public keys, hashes and identifiers: nothing to take away."""
    rows = [
        (
            P,
            "aws_access_key_id = ⟦AKIAIOSFODNN7EXAMPLE⟧\n"
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ),
        (P, "export OPENAI_API_KEY=⟦your-api-key-here⟧"),
        (P, "curl -H 'x-api-key: ⟦$ANTHROPIC_API_KEY⟧' https://api.anthropic.com/v1/models"),
        (J, 'api_key = os.environ["⟦OPENAI_API_KEY⟧"]\nassert api_key, "set the key first"'),
        (P, "password: ⟦****************⟧"),
        (P, "psql postgres://⟦USER:PASSWORD⟧@HOST:PORT/DATABASE"),
        (P, "spring.datasource.password=⟦${DB_PASSWORD}⟧"),
        (U, "https://app.harrowgate.io/login?user=<username>&password=⟦<your-password>⟧"),
        (P, "env:\n  NPM_TOKEN: ⟦${{ secrets.NPM_TOKEN }}⟧\nrun: npm publish --access public"),
        (P, "db_password: ⟦{{ lookup('hashi_vault', 'secret=pier/db:password') }}⟧"),
        (
            P,
            "- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef:\n      name: ⟦ledger-db⟧\n      key: password\n",
        ),
        (S, "the token should look like ⟦ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx⟧ in the settings page"),
        (P, "const re = /⟦gh[pousr]_[A-Za-z0-9]{36}⟧/g; // finds tokens in a diff"),
        (P, "401 Incorrect API key provided: ⟦sk-proj-********************9fQA⟧. See your account page."),
        (J, 'Keys that begin with ⟦sk-ant-...⟧ are shown once, "copy" it before you close the window.'),
        (P, "AWS shows the key in the list as ⟦AKIA************⟧ with its age in days."),
        (P, f"ssh-ed25519 ⟦AAAAC3NzaC1lZDI1NTE5AAAAI{v.pick(v.ALNUM, 43)}⟧ tove@laptop"),
        (P, "⟦" + v.pem("PUBLIC KEY", 290) + "⟧"),
        (J, "ssl_certificate:\n⟦" + v.pem("CERTIFICATE", 700) + "⟧"),
        (
            P,
            "⟦-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
            + "\n".join(v.b64(48) for _ in range(7))
            + "\n=Ye1k\n-----END PGP PUBLIC KEY BLOCK-----⟧",
        ),
        (B, "⟦" + v.pem("PUBLIC KEY", 160) + "⟧\n"),
        (
            P,
            f'{{"keys":[{{"kty":"RSA","use":"sig","alg":"RS256","kid":"2026-03","e":"AQAB",'
            f'"n":"⟦{v.pick(v.URLSAFE, 342)}⟧"}}]}}',
        ),
        (P, f"[Peer]\nPublicKey = ⟦{v.b64(32)}⟧\nAllowedIPs = 0.0.0.0/0"),
        (P, f"sops --age ⟦age1{v.pick('qpzry9x8gf2tvdw0s3jn54khce6mua7l', 58)}⟧ -e values.yaml"),
        (P, f"The authenticity of host can't be established. ED25519 key fingerprint is ⟦SHA256:{v.b64(32)[:-1]}⟧."),
        (P, f"Stripe('⟦pk_live_{v.pick(v.ALNUM, 24)}⟧').elements() // publishable key, in every page we serve"),
        (P, f"client_id: ⟦{v.digits(12)}-{v.pick(v.LOWER + v.DIGITS, 32)}.apps.googleusercontent.com⟧"),
        (P, f"FROM debian@⟦sha256:{v.pick(v.HEX, 64)}⟧"),
        (P, f"commit ⟦{v.pick(v.HEX, 40)}⟧\nMerge: {v.pick(v.HEX, 7)} {v.pick(v.HEX, 7)}\n\n    Fix rounding of fees"),
        (
            J,
            '"node_modules/left-pad": {"version": "1.3.0", "resolved": "https://npm.registry.example/left-pad/-/left-pad-1.3.0.tgz",'
            f' "integrity": "⟦sha512-{v.b64(64)}⟧"}}',
        ),
        (S, f"sha256sum says ⟦{v.pick(v.HEX, 64)}⟧ for pier-2.4.0.tar.gz, does it match?"),
        (P, f"request_id=⟦{v.uuid()}⟧ status=502 upstream=ledger took=30.01s"),
        (U, f"/jobs/⟦{v.uuid()}⟧/logs?follow=true&since=10m"),
        (P, f"traceparent: 00-⟦{v.pick(v.HEX, 32)}-{v.pick(v.HEX, 16)}⟧-01"),
        (P, f'ETag: "⟦{v.pick(v.HEX, 32)}⟧"\nLast-Modified: Tue, 03 Nov 2026 08:12:44 GMT'),
        (P, f"<script src='/static/js/vendor.⟦{v.pick(v.HEX, 20)}⟧.chunk.js' defer></script>"),
        (P, f"arn:aws:iam::{v.digits(12)}:role/⟦pier-ledger-readonly⟧"),
        (B, f"eth tx ⟦0x{v.pick(v.HEX, 64)}⟧ was mined in block 21300412"),
        (P, f"ipfs pin add ⟦bafybei{v.pick(v.LOWER + '234567', 52)}⟧"),
        (P, f"<img alt='dot' src='data:image/png;base64,⟦iVBORw0KGgoAAAANSUhEUgAAAAUA{v.pick(v.ALNUM, 80)}⟧'>"),
        (P, "The password must have at least ⟦12 characters⟧, one digit and one mark. Passwords expire after 90 days."),
        (B, "Reminder: change your password every 90 days and never share your API key with anyone.\n"),
        (P, "usage: {'prompt_tokens': ⟦4096⟧, 'completion_tokens': 512, 'total_tokens': 4608}"),
        (P, "password = ⟦getpass.getpass(⟧'Password: ')\nif not password:\n    sys.exit(1)"),
        (P, "<label for='pw'>Password</label><input type='password' id='pw' name='⟦password⟧' autocomplete='off'>"),
        (P, "git clone ⟦git@github.com:harrowgate/ledger.git⟧ && cd ledger && make"),
        (P, 'variable "db_password" {\n  type      = string\n  sensitive = true\n}\n# used as ⟦var.db_password⟧'),
        (P, "DATABASE_URL=postgres://⟦localhost:5432⟧/ledger_test"),
        (S, "the header is Authorization: Bearer ⟦<ACCESS_TOKEN>⟧ as in the manual"),
        (P, '{"login.password.label": "⟦Passwort vergessen?⟧", "login.submit": "Anmelden"}'),
        (U, "password_reset_subject=⟦Reset your password⟧&token_ttl_minutes=30"),
        (P, "client = Anthropic(api_key=⟦settings.anthropic_key⟧, max_retries=2)"),
        (J, 'def check(user, password=⟦None⟧):\n    """Compare "password" with the stored digest."""'),
        (P, f"ulid ⟦01J{v.pick('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 23)}⟧ inserted, version 7"),
        (P, "op read ⟦'op://Pier/ledger-db/password'⟧ | pbcopy"),
        (P, f"Content-Security-Policy: script-src 'nonce-⟦{v.b64(16)}⟧' 'strict-dynamic'"),
        (S, f"image digest ⟦sha256:{v.pick(v.HEX, 64)}⟧ pulled in 3.2s"),
        (P, "TOKEN=⟦$(gcloud auth print-access-token)⟧ ./smoke.sh staging"),
        (P, "secret: ⟦REPLACE_ME⟧  # filled in by the chart, the pod refuses to start with this value"),
        (U, f"https://cdn.pier.dev/fonts/inter.woff2?v=⟦{v.pick(v.HEX, 40)}⟧"),
    ]
    return [(False, form, text) for form, text in rows]
