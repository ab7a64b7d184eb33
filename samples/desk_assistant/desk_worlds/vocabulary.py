"""Word lists and name styles: what people call their files, folders, branches and notes.

The lists span households, offices, schools, clinics, shops, workshops, farms, travel, music,
sport, research, software and bookkeeping, in several languages.
"""

from collections.abc import Sequence
from random import Random

NAME_WORDS = """
invoice receipt budget report minutes agenda notes todo shopping recipes packing travel itinerary
booking tickets passport visa insurance warranty manual contract lease offer quote order delivery
stock inventory pricelist catalogue menu flyer poster newsletter letter reply draft outline summary
abstract thesis chapter essay homework exam grades attendance timetable schedule roster rota shifts
holidays birthday guests seating wedding garden seeds harvest feeding milk eggs herd vet vaccines
patients referrals prescriptions allergies lab results samples readings measurements sensors meter
calibration maintenance repairs parts tools blueprint floorplan kitchen bathroom roof wiring boiler
taxes payroll salaries expenses donations members subscribers contacts suppliers customers leads
sales forecast targets marketing campaign survey feedback interview transcript questions answers
lyrics chords setlist playlist rehearsal concert choir score training laps match lineup league
tournament results scoreboard route waypoints hikes photos captions album archive backup export
import config settings defaults users accounts permissions roles passwords-hint log errors access
server client main utils helpers parser model train evaluate dataset labels metrics plots figure
table appendix references bibliography glossary changelog release roadmap license readme install
migration schema queries seed fixtures tests coverage benchmark profile dashboard widget layout
style theme colors fonts icons logo banner header footer index about contact faq pricing
rechnung einkaufsliste protokoll urlaub vertrag kosten bestellung kunden lager termine
factura recetas lista-compra presupuesto horario alumnos apuntes viaje gastos
facture courses budget-vacances devis planning relevé élèves bilan
umowa faktura zakupy notatki oferta receita orçamento compras fatura
ricette spesa fattura appunti orario listino kvitto semester recept handleiding afspraken
kassa-boek yapılacaklar fatura-ocak alışveriş sipariş đơn-hàng ghi-chú thực-đơn
inköpslista årsmöte løypekart værdata účetnictví rozvrh jegyzet számla
議事録 買い物 レシピ 会议记录 库存
orders loans fines tenants rent deposits keys parking fleet mileage fuel tyres engine brakes
trailers greenhouse compost irrigation weather rainfall tides fishing beekeeping hives honey wine
cellar tasting brewery yeast sourdough bread pastry cakes allergens kiln glaze pottery weaving
knitting patterns quilts stamps coins vinyl chess openings puzzles boardgames characters worldmap
quests storyboard script scene-list casting credits subtitles voiceover podcast episode interviews
sponsors press-kit volunteers shifts-spring lost-and-found visitors exhibits loans-museum catalog
specimens herbarium plots-2 transects dives logbook crew safety drills checklist incident audit
compliance gdpr policy bylaws board resolutions elections ballots petition permits zoning survey-map
""".split()

DIR_WORDS = """
docs notes drafts archive old inbox outbox reports finance invoices taxes receipts hr legal
contracts
clients customers suppliers orders sales marketing design assets images photos music audio video
data
raw processed exports imports backup config scripts src lib tests examples templates recipes kitchen
garden farm animals school classes homework exams students clinic patients lab experiments samples
results figures tables chapters thesis papers slides travel trips japan-trip camping tickets family
kids birthdays wedding house renovation plans car bikes sport club members training matches choir
rehearsals scores lyrics projects website app server logs shared team meetings minutes 2023 2024
2025
2026 spring summer autumn winter january march q1 q2 q3 q4 week-07 misc todo temp-files originals
scans forms applications jobs cv letters private office workshop tools inventory warehouse shipping
Büro Rechnungen Fotos Schule Urlaub facturas recetas clase viajes documentos escola receitas cours
vacances maison élèves dokumenty zdjęcia faktury praca spesa ricette lavoro lezioni tatil belgeler
resor bilder hytta bøker škola fotky képek munka 写真 資料 财务 tài-liệu
museum library kiosk shop bakery cellar greenhouse stable boat crew fleet permits council board
events
volunteers donations podcast episodes interviews film storyboards props costumes maps routes sensors
""".split()

TEXT_EXTENSIONS = """
txt md csv json yaml py html log xml toml ini js css sql tex ts rst tsv yml sh cfg srt ics vcf bib
""".split()
EXTENSION_WEIGHTS = (24, 20, 14, 8, 4, 6, 4, 4, 3, 2, 2, 3, 2, 2, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1)
IMAGE_EXTENSIONS = ("png", "jpg", "jpg", "jpeg", "gif", "webp", "svg", "bmp")
AUDIO_EXTENSIONS = ("mp3", "wav", "ogg", "flac", "mp3")
IMAGE_WORDS = """
logo photo scan screenshot map poster sketch portrait floorplan diagram chart beach cat dog grandma
receipt xray banner team sunset icon cover header plot heatmap microscope bike garden kitchen
passport
signature stamp bridge harbour wedding birthday class graduation mural tattoo recipe-card whiteboard
ultrasound label wiring front-door damage before after cropped IMG DSC foto bild 写真 zdjęcie
""".split()
AUDIO_WORDS = """
interview voicemail memo recording song intro jingle rehearsal lecture podcast birdsong demo take
mix master chorus verse bass drums guitar reading story lullaby choir sermon meeting call ringtone
alarm ambience rain heartbeat whale engine-noise dictation vocabulary melody waltz
""".split()

FIRST_NAMES = """
Anna Nguyen Óscar Fatima Kenji Priya Łukasz Amara Sven Leila Tomás Ingrid Marta Yusuf Chen Aoife
Kwame Zsófia Björn Chloé Dmitri Elif Giulia Hana Ivan Jonas Karim Lucía Mehmet Nadia Olga Pedro
Quentin
Rosa Samira Tariq Ulla Victor Wanjiru Ximena Yuki Zoe Abebe Beatriz Callum Dagny Esteban Freya Goran
Halima Ibrahim Jelena Kofi Linh Mateo Nia Omar Petra Rania Stefan Thandi Umar Valeria Wei Yara
Zeynep
Arjun Bianca Cem Dalia Emeka Farah Greta Hugo Ines Jamal Kaja Leon Mina Noor Otto Paloma Rafael
Selin
Tala Uri Vera Willem Xavier Yael Zainab Aylin Bruno Cosima Devi Ewa Felix Ruth Siobhan Tova
""".split()
LAST_NAMES = """
Kowalska Nakamura Okafor Lindqvist Duarte Haddad Berg Diallo Rossi Novak Schmidt Dubois Silva Patel
Kim Tanaka Ivanova Müller García Larsen Petrov Yilmaz Costa Moreau Jansen Weiss Horvat Papadakis
Cohen
Mbeki Singh Fernández Olsen Bianchi Wójcik Kaplan Reyes Osei Vargas Holm Fischer Adeyemi Sato Marino
Lang Byrne Virtanen Popescu Szabó Karlsson Mendes Farouk Leroy Castillo Bakker Nyberg Tran Iwata
Abadi
Greene Walsh Hughes Murray Carter Brooks Ellis Palmer Shaw Quinn Hayes Doyle Frost Lowe Marsh Nash
""".split()

HOME_USERS = """
ana kofi mei jonas priya lena omar yuki tomas ingrid fatima luca zoe ben nina raj elif sven marta
hugo
carla ivan aoife chen user pi kiosk admin desk operator dev worker student teacher reception
frontdesk
""".split()
ROOT_NAMES = """
desk workspace documents Documents files data notes projects work office home-office shop clinic
school
farm studio lab archive shared desktop Desktop stuff my-files assistant paperwork team kiosk-data
museum records bakery garage choir club thesis bookkeeping household sandbox inbox vault library
""".split()
ROOT_PREFIXES = (
    *("/srv", "/srv/data", "/data", "/mnt/data", "/mnt/share", "/opt/kiosk", "/var/lib/desk"),
    *("/workspace", "/media/usb", "/mnt/nas", "/opt/edge", "/export", "/volumes/team"),
)

# Folders that programs make for a session, a test or a container have names that nobody chose.
TEMPORARY_SHARE = 0.2
TEMPORARY_ROOTS = (
    *("/tmp/tmp{name}", "/tmp/{word}-{name}", "/tmp/{name}/{word}", "/var/tmp/{word}_{name}"),
    *("/tmp/pytest-of-{user}/pytest-{number}/test_{word}{digit}", "/sandbox/{hex}/{word}"),
    *("/private/var/folders/{pair}/{long}/T/tmp{name}", "/home/{user}/.cache/{word}/{hex}"),
    *("/data/sessions/{hex}", "/run/user/{number}/{word}.{name}", "/app/work/{name}"),
    "C:\\Users\\{user}\\AppData\\Local\\Temp\\tmp{name}",
    *("C:\\Users\\{user}\\AppData\\Local\\Temp\\{word}-{name}", "D:\\temp\\{word}{digit}"),
)
FORWARD_SHARE = 0.3  # of the Windows paths, as Git and much else there write them
_DRAWN = "abcdefghijklmnopqrstuvwxyz0123456789_"

WORD_JOINTS = ("-", "_", " ", "")


def person(rng: Random) -> str:
    """A first and a last name."""
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def styled(words: Sequence[str], rng: Random) -> str:
    """Join words as people do: kebab, snake, spaces, camel, Pascal, upper."""
    style = rng.choices(
        ("-", "_", " ", "camel", "pascal", "title", "upper", "sentence"),
        (26, 26, 9, 8, 7, 6, 4, 6),
    )[0]
    if style in WORD_JOINTS:
        return style.join(words)
    capital = [w[:1].upper() + w[1:] for w in words]
    if style == "camel":
        return words[0] + "".join(capital[1:])
    if style == "pascal":
        return "".join(capital)
    if style == "upper":
        return "_".join(w.upper() for w in words)
    if style == "sentence":
        return " ".join([capital[0], *words[1:]])
    return " ".join(capital)


def date_mark(rng: Random) -> str:
    """A date, version or number as it stands in file names."""
    year, month, day = rng.randint(2019, 2026), rng.randint(1, 12), rng.randint(1, 28)
    return rng.choice(
        (
            *(f"{year}-{month:02}-{day:02}", f"{year}{month:02}{day:02}", f"{year}", f"{year}"),
            *(f"{year}-{month:02}", f"{day:02}{month:02}", f"q{rng.randint(1, 4)}"),
            *(f"v{rng.randint(1, 9)}", f"{rng.randint(1, 99):02}", f"{rng.randint(100, 9999)}"),
            *("final", "draft", "old", "new", "copy", "v2", f"w{rng.randint(1, 52)}"),
        )
    )


def root_path(rng: Random) -> str:
    """A plausible absolute path of a workspace."""
    if rng.random() < TEMPORARY_SHARE:
        return _temporary(rng)
    name, user = rng.choice(ROOT_NAMES), rng.choice(HOME_USERS)
    kind = rng.random()
    if kind < 0.55:
        middle = rng.choice(("", "", "", "Documents/", "work/", "projects/", "sync/"))
        return f"/home/{user}/{middle}{name}"
    if kind < 0.66:
        return f"/Users/{user}/{rng.choice(('', 'Documents/', 'Desktop/'))}{name}"
    if kind < 0.88:
        return f"{rng.choice(ROOT_PREFIXES)}/{name}"
    middle = rng.choice(
        (f"C:/Users/{user}", f"C:/Users/{user}/Documents", "D:", "C:/work", "E:/data")
    )
    path = f"{middle}/{name}"
    return path if rng.random() < FORWARD_SHARE else path.replace("/", "\\")


def _temporary(rng: Random) -> str:
    return rng.choice(TEMPORARY_ROOTS).format(
        name=_drawn(rng, 8),
        long=_drawn(rng, 30),
        pair=_drawn(rng, 2),
        word=rng.choice(ROOT_NAMES),
        user=rng.choice(HOME_USERS),
        hex=f"{rng.getrandbits(48):012x}",
        number=rng.randint(0, 1200),
        digit=rng.randint(0, 9),
    )


def _drawn(rng: Random, count: int) -> str:
    return "".join(rng.choices(_DRAWN, k=count))
