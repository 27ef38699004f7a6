"""The detectors: what each finds, where it is worth looking, and what confirms it. Pure, a table.

Patterns are read by two engines that know no backtracking (hyperscan finds, google-re2 locates), over ASCII text in
which every other character is one ``?`` (``text``). So they have neither look-around nor back-references; what stands
around a candidate is looked at by its check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from . import checks
from .checks import Check


class Looks(StrEnum):
    """In which renderings of a text a detector looks."""

    EVERYWHERE = "everywhere"  # as written, decoded, and across the border of two neighbours
    DECODED = "decoded"  # the same, but only where there is text around: numbers too easily look like these
    WRITTEN = "written"  # as written alone


@dataclass(frozen=True, slots=True)
class Detector:
    """``pattern``'s group ``group`` is the candidate. ``keywords`` are lower-case bytes of which one stands in every
    text that it can match; without any, every text with a digit is searched."""

    name: str
    pattern: str
    check: Check
    keywords: tuple[bytes, ...] = ()
    group: int = 0
    looks: Looks = Looks.EVERYWHERE
    find: str = ""
    """What hyperscan looks for in place of ``pattern``: something that is in every match and costs less."""
    cost: int = 1
    """What a candidate costs, in units of the engine."""


_COUNTED = 2
"""hyperscan takes twenty times as long for a text full of beginnings where more than so many characters are counted
behind them."""


def _beginning(pattern: str) -> str:
    """What each alternative of ``pattern`` begins with, where one counts many characters; else nothing."""
    begins, start, depth, at, is_cut, is_class = [""], 0, 0, 0, False, False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
        elif is_class:
            is_class = char != "]"
        elif char == "[":
            is_class = True
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "|" and depth == 0:
            if start >= 0:
                begins[-1] += pattern[start:at]
            begins.append("")
            start = at + 1
        elif char == "{" and depth == 0 and start >= 0:
            digits = re.match(r"[0-9]+", pattern[at + 1 :])
            if digits and int(digits[0]) > _COUNTED and pattern[start] != "[":  # a class says too little
                begins[-1] += pattern[start:at] + f"{{{_COUNTED}}}"
                start, is_cut = -1, True  # the rest of the alternative is left out
        at += 1
    if start >= 0:
        begins[-1] += pattern[start:]
    return "|".join(begins) if is_cut else ""


def _words(*words: str) -> tuple[bytes, ...]:
    return tuple(word.lower().encode("ascii") for word in words)


_T = "[A-Za-z0-9_-]"
_SAID = (
    r"(?i:pass(?:word|wd|phrase)|pwd|secret|token|api[_ -]{0,3}key|access[_ -]{0,3}key|account[_ -]{0,3}key|"
    r"auth[_ -]{0,3}key|signing[_ -]{0,3}key|encryption[_ -]{0,3}key|private[_ -]{0,3}key|shared[_ -]{0,3}key|"
    r"subscription[_ -]{0,3}key|credentials?|bearer|webhook[_ -]{0,3}key|license[_ -]{0,3}key|"
    r"passwort|kennwort|mot de passe|contrase.a|clave|senha|palavra-passe|wachtwoord|l.senord|adgangskode|passord|"
    r"salasana|has.o|heslo|parola|jelsz.|.ifre|\x02+|jeton|_auth)"
)
_SAID_WORDS = _words(
    "pass", "pwd", "secret", "token", "key", "credential", "bearer", "kennwort", "contrase", "clave", "senha", "wachtwoord",
    "senord", "adgangskode", "salasana", "has", "heslo", "parola", "jelsz", "ifre", "\x02", "jeton", "_auth",
)  # fmt: skip

_SECRETS = (
    Detector("aws_access_key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", checks.varied, _words("akia", "asia", "abia", "acca")),
    Detector("google_key", rf"AIza{_T}{{35}}|ya29\.{_T}{{20,}}|GOCSPX-{_T}{{24,40}}", checks.varied, _words("aiza", "ya29.", "gocspx-")),
    Detector(
        "azure_key",
        r"(?i:account|sharedaccess)(?i:key)=([A-Za-z0-9+/]{42,}={1,2})|[A-Za-z0-9_~.-]{3}[0-9]Q~([A-Za-z0-9_~.-]{31,34})|[?&]sig=([A-Za-z0-9%+/]{40,})",
        checks.varied,
        _words("accountkey=", "sharedaccesskey=", "q~", "sig="),
    ),
    Detector("github_token", r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{36,}", checks.varied, _words("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_")),
    Detector("gitlab_token", rf"gl(?:pat|dt|rt|ptt|cbt|soat|ft|imt|agent|oas)-{_T}{{20,}}|GR1348941{_T}{{20}}", checks.varied, _words("glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glsoat-", "glft-", "glimt-", "glagent-", "gloas-", "gr1348941")),
    Detector("atlassian_token", r"AT(?:ATT3|CTT3|BB)[A-Za-z0-9_=-]{24,}", checks.varied, _words("atatt3", "atctt3", "atbb")),
    Detector(
        "model_provider_key",
        rf"sk-(?:ant|proj|svcacct|admin|or|lf)-{_T}{{20,}}|sk-[A-Za-z0-9]{{32,64}}|(?:gsk_|hf_|r8_|fw_|csk-|pplx-|xai-|nvapi-|pcsk_|tvly-|voyage-|pa-){_T}{{30,}}|lsv2_(?:pt|sk)_[0-9a-f_]{{32,80}}",
        checks.mixed,
        _words("sk-", "gsk_", "hf_", "r8_", "fw_", "csk-", "pplx-", "xai-", "nvapi-", "pcsk_", "tvly-", "voyage-", "pa-", "lsv2_"),
    ),
    Detector("databricks_token", r"dapi[0-9a-f]{32}", checks.varied, _words("dapi")),
    Detector(
        "payment_key",
        rf"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{{16,}}|whsec_[A-Za-z0-9+/]{{24,}}|sq0(?:atp|csp|idp)-{_T}{{22,60}}|EAAA[A-Za-z0-9_-]{{56,70}}|rzp_(?:live|test)_[A-Za-z0-9]{{14,40}}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{{32}}|access_token\$production\$[0-9a-z]{{16}}\$[0-9a-f]{{32}}|access-(?:sandbox|development|production)-[0-9a-f-]{{36}}|(?:live|test)_[A-Za-z0-9]{{30,40}}",
        checks.varied,
        _words("sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_", "sq0", "eaaa", "rzp_", "shpat_", "shpca_", "shppa_", "shpss_", "access_token$", "access-", "live_", "test_"),
    ),
    Detector("slack_token", r"xox[abeoprs](?:\.xox[abp])?-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{20,}", checks.varied, _words("xox", "xapp-")),
    Detector("slack_webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9+/]{20,})", checks.varied, _words("hooks.slack.com"), 1),
    Detector("discord_token", rf"[MNO]{_T}{{23,27}}\.{_T}{{6}}\.{_T}{{27,40}}", checks.mixed, _words(".")),
    Detector("discord_webhook", rf"discord(?:app)?\.com/api/webhooks/([0-9]{{17,20}}/{_T}{{40,}})", checks.varied, _words("api/webhooks/"), 1),
    Detector("telegram_token", rf"[0-9]{{8,10}}:AA{_T}{{32,34}}", checks.varied, _words(":aa")),
    Detector("twilio_key", r"(?:SK|AC)[0-9a-f]{32}", checks.varied_alone, _words("sk", "ac")),
    Detector("mail_service_key", rf"SG\.{_T}{{16,32}}\.{_T}{{32,64}}|key-[0-9a-f]{{32}}|[0-9a-f]{{32}}-us[0-9]{{1,2}}|xkeysib-[0-9a-f]{{64}}-[A-Za-z0-9]{{16}}", checks.varied, _words("sg.", "key-", "-us", "xkeysib-")),
    Detector(
        "service_token",
        rf"npm_[A-Za-z0-9]{{36}}|pypi-AgE{_T}{{50,}}|do[opr]_v1_[0-9a-f]{{64}}|HRKU-{_T}{{36,70}}|lin_api_[A-Za-z0-9]{{32,48}}|ntn_[A-Za-z0-9]{{40,50}}|figd_{_T}{{30,60}}|glsa_[A-Za-z0-9]{{32}}_[0-9a-f]{{8}}|glc_[A-Za-z0-9+/=]{{32,}}|NRAK-[A-Z0-9]{{27}}|sntry[su]_[A-Za-z0-9_=+/-]{{40,}}|dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9._-]{{40,80}}|PMAK-[0-9a-f]{{24}}-[0-9a-f]{{34}}|dckr_pat_{_T}{{24,40}}|[A-Za-z0-9]{{14}}\.atlasv1\.{_T}{{60,80}}|sbp_[0-9a-f]{{40}}|nfp_[A-Za-z0-9]{{36,40}}|pat[A-Za-z0-9]{{14}}\.[0-9a-f]{{64}}|hv[sbr]\.{_T}{{24,}}|AGE-SECRET-KEY-1[0-9A-Z]{{58}}|ops_eyJ[A-Za-z0-9+/=_-]{{100,}}|CFPAT-{_T}{{43}}|ddp_[A-Za-z0-9]{{36}}|EZAK[A-Za-z0-9]{{54}}",
        checks.varied,
        _words("npm_", "pypi-age", "_v1_", "hrku-", "lin_api_", "ntn_", "figd_", "glsa_", "glc_", "nrak-", "sntry", "dp.", "pmak-", "dckr_pat_", ".atlasv1.", "sbp_", "nfp_", "pat", "hvs.", "hvb.", "hvr.", "age-secret-key-", "ops_eyj", "cfpat-", "ddp_", "ezak"),
    ),
    Detector(
        "private_key",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-{1,4}[^-])*(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?|PuTTY-User-Key-File-[23]: [^-]{20,}[^:]*",
        checks.pem_key,
        _words("private key", "putty-user-key-file-"),
    ),
    Detector("jwt", rf"eyJ{_T}{{8,}}\.[A-Za-z0-9_-]{{2,}}\.{_T}*(?:\.{_T}+\.{_T}+)?", checks.jwt, _words("eyj")),
    Detector("url_password", r"://[^\s/:@?#\"'<>]{0,}:([^\s/@?#\"'<>]{3,})@[A-Za-z0-9\[]", checks.url_password, _words("://"), 1, Looks.DECODED),
    Detector(
        "assigned_secret",
        _SAID + r"[A-Za-z0-9_]{0,24}(?:\\?[\"'`\])]{1,2})?[ \t]{0,8}(?:[:=]{1,2}>?|=>|->|,| is| was|[ \t])[ \t]{0,8}(?i:basic |bearer |token )?(?:\\?[\"'`(]){0,2}([^\s\"'`,;<>\\?&]{8,})",
        checks.assigned,
        _SAID_WORDS,
        1,
        Looks.DECODED,
        _SAID + r"[A-Za-z0-9_]*[\\\"'`\]) \t]*[:=,> \t][^\n]{8}",
        4,
    ),
    Detector(
        "spoken_secret",
        _SAID + r"[^\n:=\"<>{}]{0,40} (?:lautet|ist|is|est|es|to|er)[ :]{1,2}[\"'`]?([^\s\"'`,;<>\\?&]{8,})",
        checks.assigned,
        _SAID_WORDS,
        1,
        Looks.DECODED,
        _SAID + r"[^\n]* (?:lautet|ist|is|est|es|to|er)[ :]",
        4,
    ),
    Detector("command_password", r"sshpass -p ?[\"']{0,1}([^\s\"']{6,})|(?:mysql|mysqldump|mariadb)[^\n]{0,80} -p([^\s\"'-][^\s\"']{5,})|curl[^\n]{0,} (?:-u|--user) ?[\"']?[^\s:\"']{1,64}:([^\s\"']{6,})", checks.url_password, _words("sshpass", " -p", "curl"), looks=Looks.DECODED, cost=3),
    Detector("registry_auth", r"\"auth\\?\"[ ]?:[ ]?\\?\"([A-Za-z0-9+/=]{16,})", checks.assigned, _words("auth"), 1, Looks.DECODED, cost=4),
    Detector(
        "basic_credentials",
        r"(?i:authorization[\"']{0,2}[ \t]{0,4}[:=][ \t]{0,4}[\"']{0,2}basic )([A-Za-z0-9+/=_-]{8,})",
        checks.assigned,
        _words("authorization"),
        1,
        Looks.DECODED,
        cost=4,
    ),
)  # fmt: skip
SECRETS = tuple(
    replace(detector, cost=max(2, detector.cost), find=detector.find or _beginning(detector.pattern))
    for detector in _SECRETS
)
"""Whether a token is made by chance takes as long as two other checks."""

CARDS = (
    Detector("payment_card", r"(?:^|[^0-9A-Za-z_.,])([2-6](?:[ .\-/]{0,2}[0-9]){11,18}|8[12](?:[ .\-]?[0-9]){14})\b", checks.card, group=1, cost=3),
)  # fmt: skip

ACCOUNTS = (
    Detector("iban", r"\b[A-Za-z]{2}[0-9]{2}(?:[ .\-]?[A-Za-z0-9]){11,32}", checks.iban),
)  # fmt: skip

_LEFT = r"(?:^|[^0-9A-Za-z_.,+-])"
"""What may stand before a number that is no part of another: told here, so that decimals cost nothing."""


def _said(name: str, words: str, number: str, check: Check) -> Detector:
    """``number`` behind one of ``words``, which say what it is, or behind a word of another script (``views``). A short
    word must begin where no letter stands before it. hyperscan looks for the words alone: to look for what is between as
    well takes long to compile."""
    parts = [rf"(?:^|[^A-Za-z]){part}" if len(part) <= 4 else part for part in words.split("|")]
    said = rf"(?:(?i:{'|'.join(parts)})|\x03)"
    pattern = rf"{said}[^0-9\n]{{0,40}}\b({number})\b"
    return Detector(name, pattern, check, group=1, looks=Looks.DECODED, find=said)


NATIONAL_IDS = (
    Detector("us_ssn", r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", checks.us_ssn),
    _said("us_ssn_said", "ssn|social[ _-]?security|itin|tax ?id", "[0-9]{3}[ .-]?[0-9]{2}[ .-]?[0-9]{4}", checks.us_ssn_said),
    Detector("uk_nino", r"\b(?i:[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[A-D])\b", checks.uk_nino, looks=Looks.DECODED),
    Detector("de_tax_id", _LEFT + r"([1-9][0-9] [0-9]{3} [0-9]{3} [0-9]{3}|[1-9][0-9]/[0-9]{3}/[0-9]{3}/[0-9]{3})", checks.de_tax_id, group=1, looks=Looks.DECODED),
    _said("de_tax_id_said", "steuer|idnr|id-nr|ident|tin|tax", "[1-9](?:[ /]?[0-9]){10}", checks.de_tax_id),
    Detector("fr_nir", _LEFT + r"([12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{2}|2[ABab]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2})\b", checks.fr_nir, group=1),
    Detector("es_dni", r"\b[0-9]{8}[ -]?[A-HJ-NP-TV-Z]\b|\b[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]\b|\b[0-9]{2}\.[0-9]{3}\.[0-9]{3}-?[A-HJ-NP-TV-Z]\b", checks.es_dni, looks=Looks.DECODED),
    Detector("it_codice_fiscale", r"\b(?i:[A-Z]{6}[0-9LMNP-V]{2}[ABCDEHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z])\b", checks.it_codice),
    _said("pl_pesel", "pesel", "[0-9]{11}", checks.pl_pesel),
    Detector("se_personnummer", r"\b(?:19|20)?[0-9]{2}[01][0-9][0-9]{2}[-+][0-9]{4}\b", checks.se_person, looks=Looks.DECODED),
    Detector("fi_hetu", r"\b[0-3][0-9][01][0-9]{3}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]\b", checks.fi_hetu, looks=Looks.DECODED),
    Detector("be_national_number", r"\b[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}\b", checks.be_person, looks=Looks.DECODED),
    _said("be_national_number_said", "rijksregister|national|registre|niss|insz|rrn", "[0-9]{11}", checks.be_person),
    _said("nl_bsn", "bsn|burgerservice|sofi", "[0-9]{9}|[0-9]{4}[. ][0-9]{2}[. ][0-9]{3}", checks.nl_bsn),
    Detector("ca_sin", r"\b[1-79][0-9]{2}[ -][0-9]{3}[ -][0-9]{3}\b", checks.ca_sin, looks=Looks.DECODED),
    _said("ca_sin_said", "sin|social insurance", "[1-79][0-9]{8}", checks.ca_sin),
    Detector("br_cpf", r"\b[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b", checks.br_cpf, looks=Looks.DECODED),
    _said("br_cpf_said", "cpf", "[0-9]{11}", checks.br_cpf),
    Detector("in_aadhaar", r"\b[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}\b", checks.in_aadhaar, looks=Looks.DECODED),
    _said("in_aadhaar_said", "aadhaar|aadhar|uidai", "[2-9][0-9]{11}", checks.in_aadhaar),
    Detector("in_pan", r"(?:(?i:\bpan\b|permanent account)|\x03)[^\n]{0,40}?\b([A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z])\b", checks.alone_span, group=1, looks=Looks.DECODED, find=r"\b[A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z]\b"),
    Detector("ch_ahv", r"\b756[. ]?[0-9]{4}[. ]?[0-9]{4}[. ]?[0-9]{2}\b", checks.ch_ahv),
    Detector("cn_resident_id", r"\b[1-9][0-9]{5}(?:19|20)[0-9]{2}[01][0-9][0-3][0-9]{4}[0-9Xx]\b", checks.cn_resident),
    Detector("no_fodselsnummer", r"\b[0-7][0-9][0-5][0-9]{3} [0-9]{5}\b", checks.no_person, looks=Looks.DECODED),
    _said("no_fodselsnummer_said", "f.dselsnummer|personnummer|fnr", "[0-7][0-9][0-5][0-9]{8}", checks.no_person),
    Detector("sg_nric", r"\b[STFGstfg][0-9]{7}[A-Za-z]\b", checks.sg_nric, looks=Looks.DECODED),
    Detector("za_id", r"\b[0-9]{2}[01][0-9][0-3][0-9]{5}[01][89][0-9]\b", checks.za_person, looks=Looks.DECODED),
    Detector("kr_rrn", r"\b[0-9]{2}[01][0-9][0-3][0-9]-[1-8][0-9]{6}\b", checks.kr_person, looks=Looks.DECODED),
    Detector("mx_curp", r"\b[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[0-9A-Z][0-9]\b", checks.mx_curp),
    _said("ie_ppsn", "pps", "[0-9]{7}[A-Wa-w][A-IWa-iw]?", checks.ie_ppsn),
    _said("au_tfn", "tfn|tax file", "[0-9]{3} ?[0-9]{3} ?[0-9]{3}", checks.au_tfn),
    _said("pt_nif", "nif|contribuinte", "[1-35-9][0-9]{2} ?[0-9]{3} ?[0-9]{3}", checks.pt_nif),
    _said("dk_cpr", "cpr|personnummer", "[0-3][0-9][01][0-9]{3}[- ]?[0-9]{4}", checks.dk_cpr),
    Detector("at_svnr", r"\b[1-9][0-9]{3}[ -][0-3][0-9][01][0-9]{3}\b", checks.at_svnr, looks=Looks.DECODED),
    _said("at_svnr_said", "svnr|versicherung|sv-n", "[1-9][0-9]{9}", checks.at_svnr),
    _said("tr_tckn", r"tckn|kimlik|tc no|tc numara|t\.c\. ", "[1-9][0-9]{10}", checks.tr_tckn),
    _said("ro_cnp", "cnp|numeric personal", "[1-9][0-9]{12}", checks.ro_cnp),
    Detector("cz_birth_number", r"\b[0-9]{2}[0-8][0-9][0-3][0-9]/[0-9]{4}\b", checks.cz_birth_number, looks=Looks.DECODED),
    _said("jp_my_number", "my ?number|individual number", "[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}", checks.jp_my_number),
    Detector("passport", r"(?i:passport)(?i:[ _-]?(?:number|no|nr|num))?[.\"']{0,2}[ ]?(?:[:#=]|is)?[ \"'#]{0,3}([A-Z]{0,2}[0-9]{6,9}[A-Z]?)\b", checks.passport, _words("passport"), 1, Looks.DECODED),
)  # fmt: skip

CONTACT = (
    Detector("email", r"[A-Za-z0-9._%+'-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}", checks.email, _words("@"), looks=Looks.DECODED),
    Detector("phone_international", r"\+[ ]?\(?[1-9](?:[ .()/-]{0,3}[0-9]){6,14}|\b00[1-9](?:[ .()/-]{0,3}[0-9]){7,14}", checks.phone_plus, _words("+", "00"), looks=Looks.DECODED),
    Detector(
        "phone_national",
        r"\(?[2-9][0-9]{2}\)?[ .-]{1,2}[2-9][0-9]{2}[ .-][0-9]{4}|\b1[ .-]\(?[2-9][0-9]{2}\)?[ .-][2-9][0-9]{2}[ .-][0-9]{4}|\(0[0-9]{2,5}\)[ /-]?[0-9]{3,4}[ -]?[0-9]{3,5}|\b0[0-9]{2,4}[ /-][0-9]{3,4}[ -]?[0-9]{3,5}|\b0[1-9](?:[ .-][0-9]{2}){4}",
        checks.phone_national,
        looks=Looks.DECODED,
        cost=2,
    ),
    Detector(
        "phone_said",
        r"(?:(?i:phone|tel|mobil|cell|fax|whatsapp|call|sms|handy|gsm|natel|m.vil|ll.mame|chiama|bel me|appelle|ruf|ring|portable|tlf)|\x01+)[A-Za-z_]{0,10}[^0-9+\n]{0,20}([0-9(](?:[ .()/-]{0,2}[0-9]){6,14})",
        checks.phone_said,
        _words("phone", "tel", "mobil", "cel", "fax", "whatsapp", "call", "sms", "handy", "gsm", "vil", "mame", "chiama", "bel me", "appelle", "ruf", "ring", "portable", "tlf", "\x01"),
        1,
        Looks.DECODED,
        r"(?:(?i:phone|tel|mobil|cell|fax|whatsapp|call|sms|handy|gsm|natel|m.vil|ll.mame|chiama|bel me|appelle|ruf|ring|portable|tlf)|\x01)[^0-9+\n]*[0-9(](?:[ .()/-]{0,2}[0-9]){6}",
    ),
)  # fmt: skip

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})"
ADDRESSES = (
    Detector("ipv4", rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}", checks.ipv4, _words("."), looks=Looks.DECODED, cost=2),
    Detector("ipv6", r"(?i:(?:[0-9a-f]{1,4}:{1,2}){2,7}[0-9a-f]{0,4}|[0-9a-f]{1,4}::[0-9a-f]{1,4}|::ffff:[0-9.]{7,15})", checks.ipv6, _words(":"), looks=Looks.DECODED),
)  # fmt: skip

DETECTORS = {detector.name: detector for detector in (*SECRETS, *CARDS, *ACCOUNTS, *NATIONAL_IDS, *CONTACT, *ADDRESSES)}
"""By name: the words that configs/data_classes.toml ties to classes."""
