"""Questions to a bank on four topics, in several languages: written for the tests, a few each."""

# What a name of each topic should hold, in lower case: cards, transfers, passwords, rates.
TELLING = {
    "en": ("card", "transfer", "password", "rate"),
    "de": ("karte", "überweisung", "passwort", "wechselkurs"),
    "zh": ("银行卡", "转账", "密码", "汇率"),
    "ar": ("بطاق", "تحويل", "السر", "صرف"),
    "ja": ("カード", "振込", "パスワード", "レート"),
    "th": ("บัตร", "โอน", "รหัส", "อัตรา"),
}
# One topic after the other, a blank line between.
_TEXTS = {
    "en": """
My card has not arrived yet
When will the new card arrive?
I lost my card today
Where is the card that I ordered?
The card does not work at the shop
Can I get a second card for my wife?

The transfer has failed again
Why is my transfer still pending?
I want to cancel a transfer
How long does a transfer take?
My transfer went to the wrong account
The transfer was declined, why?

I forgot my password
How do I change the password?
The password is not accepted
Please reset my password
Someone knows my password
Where can I set a new password?

What is the exchange rate today?
The exchange rate was wrong
Why is your rate so bad?
Which rate do you use on weekends?
The exchange rate has changed
I was charged at another exchange rate
""",
    "de": """
Meine Karte ist noch nicht angekommen
Wann kommt die neue Karte an?
Ich habe heute meine Karte verloren
Wo ist die Karte, die ich bestellt habe?
Die Karte geht im Laden nicht
Kann meine Frau eine zweite Karte bekommen?

Die Überweisung ist wieder fehlgeschlagen
Warum ist meine Überweisung noch offen?
Ich möchte eine Überweisung stornieren
Wie lange dauert eine Überweisung?
Meine Überweisung ging auf das falsche Konto
Warum wurden die Überweisungen abgelehnt?

Ich habe mein Passwort vergessen
Wie kann ich das Passwort ändern?
Das Passwort wird nicht angenommen
Bitte setzen Sie mein Passwort zurück
Jemand kennt mein Passwort
Wo kann ich ein neues Passwort setzen?

Wie ist der Wechselkurs heute?
Der Wechselkurs war falsch
Warum ist Ihr Wechselkurs so schlecht?
Welchen Wechselkurs nehmen Sie am Wochenende?
Der Wechselkurs hat sich geändert
Mir wurde ein anderer Wechselkurs berechnet
""",
    "zh": """
我的银行卡还没有到
新的银行卡什么时候能到？
我今天丢了银行卡
我申请的银行卡在哪里？
银行卡在商店里不能用
我太太可以再办一张银行卡吗？

转账又失败了
为什么我的转账还在处理中？
我想取消一笔转账
转账需要多长时间？
我的转账进了别人的账户
转账被拒绝了，为什么？

我忘记了密码
怎么修改密码？
密码不正确
请帮我重置密码
有人知道我的密码
在哪里可以设置新密码？

今天的汇率是多少？
汇率不对
你们的汇率为什么这么差？
周末用哪个汇率？
汇率变了
你们按另一个汇率收了我的钱
""",
    "ar": """
لم تصل بطاقتي بعد
متى تصل البطاقة الجديدة؟
فقدت البطاقة اليوم
أين البطاقة التي طلبتها؟
البِطاقة لا تعمل في المتجر
هل يمكن لزوجتي الحصول على بطاقة ثانية؟

فشل التحويل مرة أخرى
لماذا ما زال التحويل معلقا؟
أريد إلغاء تحويل
كم يستغرق التحويل؟
ذهب التحويل إلى حساب آخر
لماذا تم رفض التحويل؟

نسيت كلمة السر
كيف أغير كلمة السر؟
كلمة السر غير مقبولة
أرجو إعادة تعيين كلمة السر
شخص ما يعرف كلمة السر
أين أضع كلمة السر الجديدة؟

ما هو سعر الصرف اليوم؟
كان سعر الصرف خاطئا
لماذا سعر الصرف عندكم سيئ؟
أي سعر صرف تستخدمون؟
تغير سعر الصرف
حسبتم لي سعر صرف آخر
""",
    "ja": """
カードがまだ届いていません
新しいカードはいつ届きますか？
今日カードをなくしました
申し込んだカードはどこですか？
お店でカードが使えません
妻のカードも作れますか？

振込がまた失敗しました
なぜ振込が保留になっていますか？
振込を取り消したいです
振込にはどのくらいかかりますか？
振込が別の口座に入りました
なぜ振込が拒否されましたか？

パスワードを忘れました
パスワードはどうやって変えますか？
パスワードが違うと言われます
パスワードを再設定してください
誰かが私のパスワードを知っています
新しいパスワードはどこで決めますか？

今日の為替レートはいくらですか？
為替レートが間違っていました
なぜレートが悪いのですか？
週末はどの為替レートを使いますか？
為替レートが変わりました
別の為替レートで請求されました
""",
    "th": """
บัตรของฉันยังไม่มา
บัตรใหม่จะมาถึงเมื่อไร
วันนี้ฉันทำบัตรหาย
บัตรที่ฉันสั่งอยู่ที่ไหน
บัตรใช้ที่ร้านไม่ได้
ภรรยาของฉันขอบัตรอีกใบได้ไหม

การโอนเงินล้มเหลวอีกแล้ว
ทำไมการโอนเงินยังค้างอยู่
ฉันอยากยกเลิกการโอนเงิน
โอนเงินใช้เวลานานเท่าไร
โอนเงินไปผิดบัญชี
ทำไมการโอนเงินถูกปฏิเสธ

ฉันลืมรหัสผ่าน
จะเปลี่ยนรหัสผ่านอย่างไร
รหัสผ่านไม่ถูกต้อง
ช่วยตั้งรหัสผ่านใหม่ให้หน่อย
มีคนรู้รหัสผ่านของฉัน
ตั้งรหัสผ่านใหม่ได้ที่ไหน

วันนี้อัตราแลกเปลี่ยนเท่าไร
อัตราแลกเปลี่ยนผิด
ทำไมอัตราแลกเปลี่ยนแย่จัง
วันหยุดใช้อัตราแลกเปลี่ยนไหน
อัตราแลกเปลี่ยนเปลี่ยนไปแล้ว
คิดเงินฉันด้วยอัตราแลกเปลี่ยนอื่น
""",
}
QUESTIONS = {
    language: [topic.split("\n") for topic in text.strip().split("\n\n")]
    for language, text in _TEXTS.items()
}


def bank_texts(language):
    """All questions of a language and the topic of each."""
    texts = [text for topic in QUESTIONS[language] for text in topic]
    topics = [number for number, topic in enumerate(QUESTIONS[language]) for _ in topic]
    return texts, topics
