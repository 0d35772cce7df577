"""What known clients put around a person's words: data, which an operator's configuration extends.

Each shape was written after requests of its client, in our own words. Rules for shapes that nobody listed are in
`message.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import zip_longest
from typing import Literal, NamedTuple

from triton_router.dialects.request import names

Reading = Literal["words", "context", "history", "template"]
"""What stands in a shape: the person's words, what a program added, a transcript, or directions of a program."""


class Shape(NamedTuple):
    """A mark of ``client``, and what stands in it. Names are compared without case, `-` and `_` alike.

    ``tag``: all between `<tag>` and `</tag>`. ``label``: all behind a line that begins with the label and a colon, or a
    heading of that name, until the next label. A number behind a label does not count.
    """

    client: str
    reading: Reading
    tag: str = ""
    label: str = ""


def _tags(client: str, reading: Reading, names: str) -> list[Shape]:
    return [Shape(client, reading, tag=name) for name in names.split()]


def _labels(client: str, reading: Reading, *names: str) -> list[Shape]:
    return [Shape(client, reading, label=name) for name in names]


SHAPES: tuple[Shape, ...] = (
    *_tags("Claude Code", "context", "system-reminder command-message command-name command-args local-command-stdout"),
    *_tags("Claude Code", "context", "local-command-stderr local-command-caveat task-notification bash-stdout"),
    *_tags("Claude Code", "history", "session"),
    *_tags("Codex", "context", "environment_context INSTRUCTIONS user_instructions skill user_shell_command"),
    *_labels("Codex", "words", "My request for Codex"),
    *_labels("Codex", "context", "Context from my IDE setup", "Active file", "Open tabs", "Active selection"),
    *_tags("Cline, Roo Code", "words", "task feedback user_message answer"),
    *_tags("Cline, Roo Code", "context", "environment_details file_content folder_content explicit_instructions"),
    *_tags("Cursor", "words", "user_query"),
    *_tags("Cursor", "context", "open_and_recently_viewed_files attached_files additional_data user_info rules"),
    *_tags("Cursor", "context", "open_files selection current_file cursor_rules project_layout git_status"),
    *_tags("GitHub Copilot", "words", "userRequest prompt"),
    *_tags("GitHub Copilot", "context", "attachments editorContext reminderInstructions workspace_info context"),
    *_tags("Gemini CLI", "context", "session_context state_snapshot"),
    *_tags("Open WebUI", "history", "chat_history"),
    *_labels("Open WebUI", "template", "Task", "Guidelines", "Output", "Examples", "Example"),
    *_tags("prompt templates of models", "words", "INST"),
    *_tags("prompt templates of models", "template", "SYS"),
    *_labels("prompt templates of models", "words", "Instruction"),
    *_labels("prompt templates of models", "template", "System"),
    *_labels("Open WebUI", "history", "Chat History"),
    *_labels("LibreChat", "history", "Conversation"),
    *_tags("retrieval templates", "words", "question query user_question user_request user_input user request human"),
    *_tags("retrieval templates", "words", "user_prompt"),
    *_tags("retrieval templates", "context", "documents document sources source passages passage search_results"),
    *_tags("retrieval templates", "context", "retrieved_documents knowledge background reference references"),
    *_tags("retrieval templates", "history", "conversation history conversation_history transcript chat"),
    *_labels("retrieval templates", "words", "Question", "User question", "User query", "Query", "User request"),
    *_labels("retrieval templates", "words", "Request", "User", "Human", "Q", "My question", "User input"),
    *_labels("retrieval templates", "words", "Frage", "Pregunta", "Domanda", "Pergunta", "Vraag", "Вопрос"),
    *_labels("retrieval templates", "words", "问题", "用户问题", "提问", "質問", "질문"),
    *_labels("retrieval templates", "context", "Context", "Contexts", "Context information", "Documents", "Document"),
    *_labels("retrieval templates", "context", "Sources", "Source", "Passages", "Passage", "Search results", "Excerpt"),
    *_labels("retrieval templates", "context", "Retrieved documents", "Background", "Knowledge", "Knowledge base"),
    *_labels(
        "retrieval templates", "context", "Reference", "References", "Retrieved context", "Doc", "Chunk", "Result"
    ),
    *_labels(
        "retrieval templates", "context", "Kontext", "Contexte", "Contexto", "Contesto", "上下文", "背景", "参考资料"
    ),
    *_labels("retrieval templates", "history", "History", "Conversation history", "Previous conversation"),
    *_labels("retrieval templates", "template", "Instructions", "Answer", "Helpful answer", "Response", "Assistant"),
    *_labels("retrieval templates", "template", "A", "Antwort", "Respuesta", "Réponse", "答案", "回答"),
)

# One line each: a section of these ends where its line ends.
DATES = frozenset(
    {"date", "time", "today", "now", "current date", "current time", "current date and time", "today's date"}
    | {"timezone", "time zone", "locale", "location", "user name", "username", "language", "platform"}
    | {"日期", "当前时间", "当前日期"}
)
MAIL = frozenset({"from", "to", "cc", "bcc", "sent", "date", "subject", "reply-to", "von", "an", "betreff", "gesendet"})

# The same and more in the languages of mail programs: two lines in a row of these are the head of a mail.
MAIL_FIELDS = (
    MAIL
    | names(
        """kopie datum de para enviado asunto fecha à envoyé objet a da inviato oggetto data assunto enviada onderwerp
        verzonden aan van od do wysłano temat dw от кому дата тема копия отправлено fra til sendt emne dato från till
        skickat ämne lähettäjä vastaanottaja lähetetty aihe kimden kime konu tarih 差出人 送信者 送信日時 日時 宛先 件名
        发件人 收件人 发送时间 主题 日期 抄送 제목"""
    )
    | {"보낸 사람", "받는 사람", "보낸 날짜"}
)


# Words in the names of tags and labels that no shape lists; beginnings and ends of words in languages that join them.
_PERSONS = names(
    """question query request message msg user human customer client ask asks asked prompt task problem instruction
    visitor guest caller utterance enquiry inquiry student learner pupil reader viewer player member patient requester
    sender passenger shopper attendee audience subscriber buyer tenant applicant parent child traveller listener wearer
    speaker typed dictated dictation spoken entry speech command goal objective topic wish concern feedback complaint
    remark comment utt transcript say"""
)
_PROGRAMS = names(
    """context document documents doc docs source sources memory memories remember history note notes reference
    references result results information background knowledge file files metadata profile policy policies rules system
    retrieved search snippet snippets attachment attachments environment settings state article articles action tool
    function observation page webpage website screen excerpt clipboard"""
)
# Whose label may have its text behind it on the line: "Latest message from Ines: ...", but not "Message format: ...".
_SPEECH = names(
    "question query request message msg prompt problem input instruction utterance enquiry inquiry comment ask"
)
_OWNERS = names("of from by for to")
_FIELDS = names("text content body comment utterance instruction description wording")
_CODE = frozenset("{}=;")
_NAME_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# What a label says of a person who speaks: "The player says", "Der Mandant schreibt uns".
_SPEAKS = re.compile(
    r"\b(?:asks|writes|says|types|is asking|wants to know|schreibt|fragt|sagt|escribe|pregunta|dice|écrit|demande|dit"
    r"|scrive|chiede|escreve|pergunta|diz|пишет|спрашивает|говорит|пише|питає|pisze|pyta|mówi|píše|ptá|schrijft|vraagt"
    r"|zegt|skriver|frågar|spør|säger|sier|spørger|siger|kirjoittaa|kysyy|sanoo|írja|kérdezi|yazıyor|soruyor|diyor|γράφει"
    r"|ρωτάει|hỏi|nhắn|menulis|bertanya|scrie|întreabă|says|tells|adds|wants|needs|requested|sent|typed|entered|wrote"
    r"|said|asked)\b|^(?:typed|entered|asked)\b|(?:说|說|问|問)道?$",
    re.IGNORECASE,
)
_PERSONS_ELSEWHERE = re.compile(
    r"frage|nachricht|anliegen|utilisateur|demande|requête|pregunta|consulta|solicitud|usuario|domanda|richiesta|utente"
    r"|pergunta|usuário|vraag|bericht|вопрос|запрос|сообщени|пользовател|用户|用戶|问题|問題|提问|提問|请求|請求|输入|輸入|質問"
    r"|ユーザ|依頼|問い合わせ|相談|咨询|諮詢|留言|사용자|질문|요청|입력|문의|pytanie|wiadomoś|zapytani|klient|zpráva|dotaz|zákazn"
    r"|питання|повідомлен|клієнт|клиент|soru|mesaj|müşteri|kullanıcı|fråga|meddelande|spørsmål|melding|besked|kysymys|viesti"
    r"|asiakas|kérdés|üzenet|ügyfél|ερώτηση|μήνυμα|πελάτ|câu hỏi|yêu cầu|tin nhắn|khách|प्रश्न|सवाल|संदेश|ग्राहक|سؤال|رسالة"
    r"|العميل|المستخدم|שאלה|הודעה|pertanyaan|pesan|pelanggan|întrebare|kunde|cliente|mensaje|mensagem|messaggio|客户|顾客"
    r"|客戶|お客"
)
_PROGRAMS_ELSEWHERE = re.compile(
    r"kontext|ausz[uü]g|dokument|quellen|wissen|hintergrund|contexte|extrait|contexto|fuentes|contesto|documenti|fonti"
    r"|контекст|документ|источник|справк|上下文|背景|资料|資料|文档|文檔|信息|資訊|情報|历史|歷史|履歴|参考|參考|検索|文書"
    r"|문서|참고|배경|이력|źródł|wiedza|zdroj|джерел|kaynak|belge|bağlam|källa|kilde|lähde|forrás|πηγή|tài liệu"
)


@lru_cache(maxsize=4096)
def reading_by_name(name: str) -> Reading | None:
    """What an unlisted tag or label says by the words in its name; ``None`` where they say nothing, or in code."""
    if not _CODE.isdisjoint(name):
        return None
    if _names_speaker(name):
        return "words"
    words = _words(name)
    if not words.isdisjoint(_PROGRAMS):
        return "context"
    if not words.isdisjoint(_PERSONS) or (len(words) > 1 and "input" in words):
        return "words"
    folded = name.casefold()
    if _PROGRAMS_ELSEWHERE.search(folded):
        return "context"
    return "words" if _PERSONS_ELSEWHERE.search(folded) else None


def names_speech(name: str) -> bool:
    """Whether an unlisted label names what a person says, not only the person."""
    words = [word.casefold() for word in _NAME_WORD.findall(name)]
    speech = any(
        word in _SPEECH and (after is None or after in _OWNERS) for word, after in zip_longest(words, words[1:])
    )
    return speech or _PERSONS_ELSEWHERE.search(name.casefold()) is not None or _names_speaker(name)


def names_text(name: str) -> bool:
    """Whether a field of a record, in tags or in JSON, holds what a person says."""
    first, _, owner = name.casefold().partition(" ")
    return (first in _FIELDS and (not owner or owner.split()[0] in _OWNERS)) or names_speech(name)


def _names_speaker(name: str) -> bool:
    """Whether a label says that somebody speaks. A date stands in what a mail says of the one that it answers."""
    return " " in name and _SPEAKS.search(name) is not None and sum(map(str.isdecimal, name)) < 3


def _words(name: str) -> set[str]:
    return {word.casefold() for word in _NAME_WORD.findall(name)}


def name_of(text: str) -> str:
    """The form in which names of tags and labels are compared."""
    return text.strip().casefold().replace("-", "_")


_SPOKEN = frozenset({"words", "history"})


class ShapeTable:
    """Shapes by the names of their tags and labels; later ones, an operator's, take the place of earlier ones."""

    __slots__ = ("_persons", "labels", "tags")

    def __init__(self, shapes: Iterable[Shape]) -> None:
        self.tags: dict[str, Shape] = {}
        self.labels: dict[str, Shape] = {}
        for shape in shapes:
            if shape.tag:
                self.tags[name_of(shape.tag)] = shape
            if shape.label:
                self.labels[name_of(shape.label)] = shape
        labels, tags = (
            "|".join(re.escape(name).replace("_", "[-_]") for name, shape in shapes.items() if shape.reading in _SPOKEN)
            for shapes in (self.labels, self.tags)
        )
        # Names of labels stand at the beginning of a line, and nothing but a number stands between them and its end or
        # a colon.
        self._persons = re.compile(
            rf"\n[^\w\n]*(?:{labels or '(?!)'})[^\w\n]*(?:\d{{1,3}}[^\w\n]*)?(?:[:：\n]|\Z)"
            rf"|[<\[]/(?:{tags or '(?!)'})[>\]]",
            re.IGNORECASE,
        )

    def may_name_persons(self, text: str) -> bool:
        """Whether ``text`` may have a mark whose words are a person's, or a transcript."""
        return self._persons.search(f"\n{text}") is not None
