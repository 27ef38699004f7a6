"""Cards, bank accounts and national numbers of the second labelled set; ⟦ and ⟧ stand around the value."""

from . import second_values as v
from .second_secret_rows import B, J, P, Row, S, U


def cards() -> list[Row]:
    """Numbers of the big issuers, and long numbers that are none."""
    amex = v.grouped(v.card("37", 15), (4, 6, 5), " ")
    diners = v.grouped(v.card("36", 14), (4, 6, 4), "-")
    yes = [
        (P, f"Hi, please charge my Visa ⟦{v.fours(v.card('4'))}⟧, exp 09/28, for the two extra nights."),
        (P, f"card_number=⟦{v.card('4')}⟧&exp_month=11&exp_year=2029"),
        (P, f"The guest gave ⟦{v.fours(v.card('53'), '-')}⟧ over the phone and wants an invoice."),
        (P, f"Mastercard ⟦{v.card('2720')}⟧ declined with code 51, twice"),
        (P, f"Amex on file: ⟦{amex}⟧ name on card: R. OKONJO"),
        (P, f"pan:⟦{v.card('34', 15)}⟧|track:2|terminal:00418"),
        (P, f"Kreditkarte: ⟦{v.fours(v.card('55'))}⟧, gültig bis 04/27, Prüfziffer 771"),
        (P, f"Numéro de carte bancaire ⟦{v.fours(v.card('4970'))}⟧ expire fin 03/29"),
        (P, f"id,name,cc\n17,Ilse Vorderman,⟦{v.card('51')}⟧\n18,Pat Oyelaran,⟦{v.card('4')}⟧\n"),
        (P, f"Discover ⟦{v.fours(v.card('6011'))}⟧ - refund 18.40 to it please"),
        (P, f"discover card new range: ⟦{v.card('6507')}⟧"),
        (P, f"Diners Club ⟦{diners}⟧ is accepted at the front desk"),
        (P, f"JCB card ⟦{v.fours(v.card('3562'))}⟧ (Tokyo office)"),
        (P, f"UnionPay ⟦{v.fours(v.card('6225'))}⟧ 有效期 08/27"),
        (J, f'Customer said: "my card is ⟦{v.fours(v.card("4"))}⟧, the code is on the back"'),
        (J, f"tarjeta de crédito:\t⟦{v.card('5412')}⟧\ncaduca:\t12/27"),
        (J, f"cc=⟦{v.grouped(v.card('37', 15), (4, 6, 5), '-')}⟧"),
        (B, f"BOOKING 7713\nVISA ⟦{v.card('4')}⟧ 06/28\n"),
        (B, f'{{"payment":{{"type":"card","number":"⟦{v.card("2223")}⟧"}}}}'),
        (S, f"the card to use is ⟦{v.fours(v.card('4'))}⟧ until the end of the year"),
        (S, f"Zahlung mit Karte ⟦{v.card('5312')}⟧ bitte buchen"),
        (S, f"amex ⟦{v.card('37', 15)}⟧ thanks"),
        (U, f"name=Ilse+V&card=⟦{v.fours(v.card('54'))}⟧&cvv=204"),
        (U, f"pay with ⟦{v.fours(v.card('6011'), '-')}⟧ today"),
        (P, f"my number is ⟦{v.fours(v.card('4'), chr(0xA0))}⟧ (copied from the bank's app)"),
        (P, f"On the slip: PAN ⟦{v.card('3589')}⟧ AUTH 448120 APPROVED"),
    ]
    bad = v.off(v.fours(v.card("4")))
    no = [
        (P, f"card ⟦{bad}⟧ was refused: the number fails its check, please type it again"),
        (P, f"Mastercard no. ⟦{v.off(v.card('53'))}⟧ (typo in the last digit)"),
        (J, f'"order": "⟦{v.off(v.card("4"))}⟧", "state": "packed"'),
        (P, "Paid with Visa ending in ⟦4417⟧, receipt sent."),
        (P, f"card: ⟦4929 **** **** {v.pick(v.DIGITS, 4)}⟧ exp **/**"),
        (S, "masked pan ⟦XXXX-XXXX-XXXX-8830⟧ in the export"),
        (P, "Enter your card number in the form ⟦#### #### #### ####⟧ without letters."),
        (P, f"IMEI ⟦{v.luhn('35' + v.pick(v.DIGITS, 12))}⟧ of the courier's handset"),
        (P, f"SIM ICCID: ⟦{v.luhn('8946' + v.pick(v.DIGITS, 14))}⟧ activated"),
        (P, "kafka offset=88123 ts_ns=⟦1794960412345678912⟧ partition=4"),
        (J, '{"created_us": ⟦1794960412345678⟧, "kind": "tick"}'),
        (P, f"loss=⟦0.{v.card('4')}⟧ after epoch 12"),
        (P, f"checksum block {v.digits(9)}⟦{v.card('5412')}⟧{v.digits(11)} of the tape"),
        (P, "placeholder ⟦0000 0000 0000 0000⟧ is shown before the widget loads"),
        (P, f"tracking no. ⟦{v.luhn('9' + v.pick(v.DIGITS, 18))}⟧, parcel left Gdynia at 06:20"),
        (P, f"ISBN ⟦{v.ean13('978')}⟧, hardback, 312 pages"),
        (U, f"/t/⟦{v.luhn('1' + v.pick(v.DIGITS, 17))}⟧?src=timeline"),
        (P, "years: ⟦2019 2020 2021 2023⟧ and counts: 4410 5120 5388 6021"),
        (B, f"invoice ⟦{v.off(v.card('55'))}⟧ is overdue\n"),
        (P, f"sha1 ⟦{v.pick('abcdef', 6)}{v.card('4')}{v.pick('abcdef', 18)}⟧ of the layer"),
        (P, f"Meter reading: serial ⟦{v.luhn('0' + v.pick(v.DIGITS, 14))}⟧, 4410 kWh"),
        (P, f"voucher ⟦{v.fours(v.luhn('7' + v.pick(v.DIGITS, 14)))}⟧ gives ten per cent on socks"),
        (S, f"order number ⟦{v.off(v.card('37', 15))}⟧ not yet shipped"),
    ]
    return [(True, *row) for row in yes] + [(False, *row) for row in no]


_SHAPES = {
    "DE": "n" * 18,
    "GB": "aaaa" + "n" * 14,
    "FR": "n" * 23,
    "IT": "a" + "n" * 22,
    "NL": "INGB" + "n" * 10,
    "PL": "n" * 24,
    "SE": "n" * 20,
    "DK": "n" * 14,
    "FI": "n" * 14,
    "CH": "00762" + "n" * 12,
    "AT": "n" * 16,
    "PT": "n" * 21,
    "IE": "BOFI" + "n" * 14,
    "LU": "n" * 16,
    "CZ": "n" * 20,
    "HU": "n" * 24,
    "RO": "BTRL" + "n" * 16,
    "BG": "UNCR" + "n" * 14,
    "GR": "n" * 23,
    "HR": "n" * 17,
    "EE": "n" * 16,
    "LV": "HABA" + "n" * 13,
    "MT": "VALL" + "n" * 23,
    "TR": "n" * 5 + "0" + "n" * 16,
    "SA": "n" * 20,
    "AE": "n" * 19,
    "IL": "n" * 19,
    "BR": "n" * 23 + "P1",
    "LI": "n" * 17,
    "ES": "n" * 20,
    "BE": "n" * 12,
}


def _iban(country: str, shape: str = "") -> str:
    return v.iban(country, shape or _SHAPES[country])


def _es() -> str:
    bank, account = v.digits(8), v.digits(10)
    weights = (1, 2, 4, 8, 5, 10, 9, 7, 3, 6)
    one, two = (11 - v.weighted(part, weights) % 11 for part in ("00" + bank, account))
    keys = "".join({10: "1", 11: "0"}.get(key, str(key)) for key in (one, two))
    return _iban("ES", bank + keys + account)


def _be() -> str:
    body = v.digits(10)
    return _iban("BE", f"{body}{int(body) % 97 or 97:02d}")


def _no() -> str:
    while True:
        body = v.digits(10)
        check = -v.weighted(body, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
        if check < 10:
            return _iban("NO", f"{body}{check}")


def ibans() -> list[Row]:
    """Accounts of many countries, and codes of the same build that are none."""
    yes = [
        (P, f"Bitte überweisen Sie 480 € auf ⟦{v.fours(_iban('DE'))}⟧, Verwendungszweck Kaution."),
        (P, f"iban: ⟦{_iban('DE')}⟧"),
        (P, f"Refund to Mrs Adeyemi, ⟦{v.fours(_iban('GB'))}⟧, reference HAR-118"),
        (P, f"RIB : ⟦{v.fours(_iban('FR'))}⟧ au nom de Mme Le Goff"),
        (P, f"Domiciliar el recibo en la cuenta ⟦{v.fours(_es())}⟧ a partir de mayo"),
        (P, f"IBAN ⟦{_iban('IT')}⟧ intestato a Studio Ferrante"),
        (P, f"graag overmaken naar ⟦{v.fours(_iban('NL'))}⟧ t.n.v. J. de Wit"),
        (P, f"Rekeningnummer ⟦{v.fours(_be())}⟧, mededeling +++090/9337/55493+++"),
        (P, f"Przelew na konto ⟦{v.fours(_iban('PL'))}⟧ do piątku"),
        (P, f"payee;iban;amount\nTove Lund;⟦{_iban('SE')}⟧;1200,00"),
        (P, f"Kontoen er ⟦{v.fours(_iban('DK'))}⟧ (IBAN)"),
        (P, f"salary account ⟦{_no()}⟧ changed on 3 November"),
        (P, f"Tilinumero: ⟦{v.fours(_iban('FI'))}⟧"),
        (P, f"QR-Rechnung, Konto / Zahlbar an ⟦{v.fours(_iban('CH'))}⟧"),
        (P, f"<CdtrAcct><Id><IBAN>⟦{_iban('AT')}⟧</IBAN></Id></CdtrAcct>"),
        (J, f'Titular: "Inês Moutinho"\nIBAN:\t⟦{v.fours(_iban("PT"))}⟧'),
        (J, f"pay ⟦{_iban('IE')}⟧ / BOFIIE2D"),
        (J, f"Účet: ⟦{_iban('CZ')}⟧"),
        (B, f"beneficiary account ⟦{_iban('HU')}⟧\namount 88000 HUF\n"),
        (B, f'{{"iban":"⟦{_iban("LU")}⟧","name":"Weis & Fils"}}'),
        (S, f"send the deposit to ⟦{_iban('RO')}⟧ before noon"),
        (S, f"η πληρωμή στο ⟦{v.fours(_iban('GR'))}⟧ σήμερα"),
        (U, f"iban=⟦{v.fours(_iban('HR'))}⟧&bic=ZABAHR2X"),
        (U, f"/accounts/⟦{_iban('EE')}⟧/statements"),
        (P, f"maaş hesabı ⟦{v.fours(_iban('TR'))}⟧ olarak güncellendi"),
        (P, f"supplier in Riyadh: ⟦{_iban('SA')}⟧, in Dubai: ⟦{_iban('AE')}⟧"),
        (P, f"old mail, lower case: ⟦{_iban('LV').lower()}⟧ is still my iban"),
        (P, f"IBAN ⟦{_iban('MT')}⟧ for the Sliema office rent"),
        (P, f"Banco: IBAN ⟦{_iban('BR')}⟧ (Curitiba)"),
        (P, f"account with dashes as the form wants: IBAN ⟦{v.fours(_iban('BG'), '-')}⟧"),
        (P, f"debit ⟦{_iban('IL')}⟧ (IBAN) on the 5th"),
    ]
    reference = v.digits(12)
    rf = f"RF{98 - v.letters_as_numbers(reference + 'RF00') % 97:02d}{reference}"
    no = [
        (P, f"IBAN ⟦{v.off(v.fours(_iban('DE')))}⟧ rejected by the bank: wrong check digits"),
        (P, f"iban=⟦{v.off(_iban('NL'))}⟧ error=checksum"),
        (J, f'"iban": "⟦{v.off(_iban("GB"))}⟧", "error": "does not add up"'),
        (S, f"typed by the customer: ⟦{v.off(_iban('FR'))}⟧ which is not valid"),
        (P, f"IBAN too short for Germany: ⟦{_iban('DE', 'n' * 16)}⟧"),
        (P, f"account code ⟦{_iban('FI', 'n' * 18)}⟧ has four digits too many to be Finnish"),
        (P, f"warehouse slot ⟦{_iban('ZZ', 'n' * 18)}⟧, aisle 4"),
        (P, f"beneficiary code ⟦{_iban('US', 'n' * 18)}⟧ refused, the United States have no IBAN"),
        (P, "Please give the account as ⟦DEkk bbbb bbbb cccc cccc cc⟧ (22 places)."),
        (P, "IBAN: ⟦DE** **** **** **** **82 17⟧"),
        (U, "iban=⟦XX00 0000 0000 0000 0000 00⟧"),
        (P, "BIC ⟦MARKDEF1100⟧, branch Frankfurt"),
        (P, f"creditor reference ⟦{v.fours(rf)}⟧ on every invoice"),
        (P, f"LEI ⟦{v.lei()}⟧ renewed until 2027-06-30"),
        (P, f"USt-IdNr. ⟦DE{v.digits(9)}⟧, Amtsgericht Kiel HRB 22871"),
        (P, "Gläubiger-ID ⟦DE74ZZZ00000045678⟧ steht auf dem Mandat"),
        (P, "ISIN ⟦US5949181045⟧ up 1.2 %, ISIN DE0007164600 flat"),
        (B, f"part ⟦GB{v.digits(2)}-KX-{v.digits(6)}⟧ is on back order\n"),
        (P, f"product key ⟦{'-'.join(v.pick('BCDFGHJKMPQRTVWXY2346789', 5) for _ in range(5))}⟧ entered"),
        (P, "flight ⟦NO18 4410⟧ from gate FI21, hold 5584 bags"),
        (S, f"container ⟦MSKU{v.digits(7)}⟧ cleared customs in Gdynia"),
        (J, f"digest ⟦de{v.pick(v.HEX, 38)}⟧"),
    ]
    return [(True, *row) for row in yes] + [(False, *row) for row in no]


def national_ids() -> list[Row]:
    """Numbers of persons in eighteen countries, and numbers that only have the length."""
    ni = v.grouped(v.nino(), (2, 2, 2, 2, 1), " ")
    swede, dane = v.personnummer(), v.cpr()
    cpf = v.cpf()
    yes = [
        (P, f"For the background check: SSN ⟦{v.ssn()}⟧, born in Duluth."),
        (P, f"applicant_ssn=⟦{v.ssn().replace('-', '')}⟧ (Social Security number, no dashes)"),
        (J, f'"Employee": "Dana Whitlock", "Social Security No.": "⟦{v.ssn()}⟧"'),
        (B, f"W-2 2025\nSSN: ⟦{v.ssn()}⟧\nBox 1: 61,204.00\n"),
        (S, f"my social security number is ⟦{v.ssn()}⟧ and I moved in June"),
        (P, f"NI number ⟦{ni}⟧ for the new starter, tax code 1257L"),
        (P, f"National Insurance: ⟦{v.nino()}⟧"),
        (P, f"NHS number ⟦{v.grouped(v.nhs(), (3, 3, 4), ' ')}⟧, referred by Dr Penhale"),
        (U, f"patient=Rosen&nhs_number=⟦{v.nhs()}⟧"),
        (
            P,
            f"Meine Steuer-ID lautet ⟦{v.grouped(v.steuer_id(), (2, 3, 3, 3), ' ')}⟧, für die Lohnabrechnung.",
        ),
        (P, f"Steuerliche Identifikationsnummer: ⟦{v.steuer_id()}⟧"),
        (S, f"IdNr. ⟦{v.steuer_id()}⟧ laut Bescheid vom 4. Mai (Steuer-ID)"),
        (P, f"Sozialversicherungsnummer ⟦{v.rentennummer()}⟧"),
        (P, f"N° de sécurité sociale : ⟦{v.grouped(v.nir(), (1, 2, 2, 2, 3, 3, 2), ' ')}⟧"),
        (J, f"NIR\t⟦{v.nir()}⟧\nné à Brest"),
        (P, f"DNI ⟦{v.dni()}⟧, vecina de Gijón"),
        (P, f"NIE del trabajador: ⟦{v.grouped(v.dni('X'), (1, 7, 1), '-')}⟧"),
        (B, f"dni;nombre\n⟦{v.dni()}⟧;Uxía Rial\n"),
        (P, f"Codice fiscale ⟦{v.codice_fiscale('FRRLCU', 'H501')}⟧ come da tessera sanitaria"),
        (S, f"CF: ⟦{v.codice_fiscale('BNCGLI', 'F205')}⟧ (codice fiscale della paziente)"),
        (P, f"BSN ⟦{v.bsn()}⟧ staat op de loonstrook"),
        (J, f'burgerservicenummer: "⟦{v.bsn()}⟧"'),
        (P, f"Rijksregisternummer: ⟦{_belgian(v.rijksregister())}⟧"),
        (P, f"numéro national ⟦{_belgian(v.rijksregister(True))}⟧ (étudiante)"),
        (P, f"PESEL: ⟦{v.pesel()}⟧, zam. Gdynia"),
        (U, f"imie=Zofia&pesel=⟦{v.pesel()}⟧"),
        (P, f"Personnummer ⟦{swede[:6]}-{swede[6:]}⟧ ska anges på blanketten"),
        (P, f"mitt personnummer är ⟦19{(again := v.personnummer())[:6]}-{again[6:]}⟧"),
        (P, f"CPR-nr. ⟦{dane[:6]}-{dane[6:]}⟧, Aarhus"),
        (J, f"cpr:\t⟦{v.cpr()}⟧"),
        (P, f"Fødselsnummer: ⟦{v.fodselsnummer()}⟧"),
        (S, f"fødselsnummeret mitt er ⟦{v.grouped(v.fodselsnummer(), (6, 5), ' ')}⟧ takk"),
        (P, f"Henkilötunnus ⟦{v.hetu()}⟧ ja osoite Turku"),
        (P, f"hetu: ⟦{v.hetu('A')}⟧"),
        (P, f"AHV-Nr. ⟦{v.ahv()}⟧ gemäss Versicherungsausweis"),
        (B, f"Numéro AVS ⟦{v.ahv()}⟧\n"),
        (P, f"CPF do titular: ⟦{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}⟧"),
        (P, f"cpf=⟦{v.cpf()}⟧, conta corrente em Curitiba"),
        (P, f"SIN ⟦{v.grouped(v.sin(), (3, 3, 3), ' ')}⟧ (Social Insurance Number) for the T4"),
        (U, f"social insurance number ⟦{v.grouped(v.sin(), (3, 3, 3), '-')}⟧"),
        (P, f"TFN: ⟦{v.grouped(v.tfn(), (3, 3, 3), ' ')}⟧"),
        (J, f"Tax file number\n⟦{v.tfn()}⟧"),
        (P, f"Aadhaar ⟦{v.fours(v.aadhaar())}⟧ linked to the ration card"),
        (S, f"aadhaar number ⟦{v.aadhaar()}⟧ for KYC"),
        (
            P,
            f"PAN card: ⟦{v.pick(v.UPPER, 3)}P{v.pick(v.UPPER, 1)}{v.digits(4)}{v.pick(v.UPPER, 1)}⟧, income tax 2025",
        ),
    ]
    wrong_it = v.codice_fiscale("VRDMRA", "L219")
    wrong_it = wrong_it[:-1] + ("A" if wrong_it[-1] != "A" else "B")
    wrong_es = v.dni()
    wrong_es = wrong_es[:-1] + ("T" if wrong_es[-1] != "T" else "R")
    wrong_fi = v.hetu()
    wrong_fi = wrong_fi[:-1] + ("C" if wrong_fi[-1] != "C" else "D")
    swede, dane_order = v.personnummer(), v.digits(4)
    no = [
        (P, "Enter your SSN as ⟦XXX-XX-XXXX⟧ on line 3."),
        (P, "SSN ⟦000-41-8823⟧ is refused, no area 000 was ever given out"),
        (J, 'ssn: "⟦666-20-4471⟧" // area 666 does not exist, used in the unit test'),
        (P, "SSN on file: ⟦***-**-7719⟧"),
        (P, "SSN with group 00: ⟦417-00-5521⟧ must not pass the form"),
        (P, "form 1040 line ⟦12-34-567⟧ refers to last year"),
        (P, "national insurance number, for example ⟦QQ 12 34 56 C⟧"),
        (S, "the letters GB are never used, so ⟦GB 41 22 87 A⟧ is no NI number"),
        (P, f"NHS number ⟦{v.off(v.nhs())}⟧ fails modulus 11, ask the practice"),
        (P, f"Steuer-ID ⟦{v.off(v.steuer_id())}⟧ ungültig: Prüfziffer falsch"),
        (P, f"Rechnung Nr. ⟦{v.off(v.steuer_id())}⟧ vom 12. Mai"),
        (P, f"numéro de sécurité sociale refusé (clé fausse) : ⟦{v.off(v.nir())}⟧"),
        (P, f"DNI ⟦{wrong_es}⟧: la letra no corresponde"),
        (U, f"codice fiscale ⟦{wrong_it}⟧ carattere di controllo errato"),
        (P, f"BSN ⟦{v.off(v.bsn())}⟧ voldoet niet aan de elfproef"),
        (P, f"rijksregisternummer ⟦{_belgian(v.off(v.rijksregister()))}⟧: controlegetal klopt niet"),
        (P, f"PESEL ⟦{v.off(v.pesel())}⟧ - błędna cyfra kontrolna"),
        (P, f"personnummer ⟦{swede[:6]}-{v.off(swede[6:])}⟧ har fel kontrollsiffra"),
        (P, f"batch ⟦451399-{dane_order}⟧ was recalled (day 45 is no day)"),
        (J, f"fødselsnummer ⟦{v.off(v.fodselsnummer())}⟧ er ugyldig"),
        (P, f"henkilötunnus ⟦{wrong_fi}⟧ on virheellinen, tarkistusmerkki väärin"),
        (P, f"EAN ⟦{v.ean13('400')}⟧, pack of six"),
        (P, f"CPF inválido: ⟦{v.off(v.cpf())}⟧"),
        (P, "CPF: ⟦000.000.000-00⟧"),
        (B, f"SIN ⟦{v.off(v.sin())}⟧ rejected: check digit\n"),
        (P, f"TFN ⟦{v.off(v.tfn())}⟧ does not divide by eleven"),
        (P, f"Aadhaar ⟦{v.off(v.fours(v.aadhaar()))}⟧ failed Verhoeff, scan again"),
        (P, "Aadhaar: ⟦XXXX XXXX 4410⟧"),
        (S, f"ticket ⟦INC00{v.digits(7)}⟧ closed by the second line"),
        (P, "deploy ⟦20261103-0812⟧ rolled back, deploy 20261103-0940 is live"),
        (P, f"Los-Nr. ⟦L{v.digits(6)}/26⟧, mindestens haltbar bis 03.2028"),
        (U, f"asset=⟦{v.digits(3)}-{v.pick(v.UPPER, 2)}-{v.digits(4)}⟧&site=Leith"),
        (P, "sin(⟦0.785398163⟧) = 0.707106781, cos is the same"),
        (P, f"build ⟦{v.digits(2)}.{v.digits(3)}.{v.digits(3)}.1⟧ of the firmware fixes the pump"),
        (S, f"commit ⟦{v.pick(v.HEX, 12)}⟧ touches the tax module only"),
        (P, "AHV-Nr. ⟦756.XXXX.XXXX.XX⟧ bitte ergänzen"),
    ]
    return [(True, *row) for row in yes] + [(False, *row) for row in no]


def _belgian(number: str) -> str:
    return f"{number[:2]}.{number[2:4]}.{number[4:6]}-{number[6:9]}.{number[9:]}"
