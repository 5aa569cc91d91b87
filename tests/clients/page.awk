# A large page for w3m: headings, paragraphs with links, lists, tables within tables, forms.
#     awk -v sections=400 -f page.awk
function random(n) {
    state = (state * 69069 + 12345) % 4294967296
    return int(state / 65536) % n
}
function word(  i, n, text) {
    n = 2 + random(7)
    text = ""
    for (i = 0; i < n; i++) text = text substr("abcdefghijklmnopqrstuvwxyz", 1 + random(26), 1)
    return text
}
function words(n,  i, text) {
    text = word()
    for (i = 1; i < n; i++) text = text " " word()
    return text
}
function link(n) {
    return "<a href=\"https://example.org/" word() "/" n ".html#" word() "\">" words(2) "</a>"
}
function table(rows, columns, depth,  i, k) {
    print "<table border=\"1\"><caption>" words(3) "</caption><tr>"
    for (k = 0; k < columns; k++) print "<th>" word() "</th>"
    print "</tr>"
    for (i = 0; i < rows; i++) {
        print "<tr>"
        for (k = 0; k < columns; k++) {
            if (depth > 0 && random(12) == 0) {
                print "<td>"
                table(2, 2, depth - 1)
                print "</td>"
            } else if (random(5) == 0) print "<td align=\"right\">" random(100000) "</td>"
            else if (random(9) == 0 && k + 1 < columns) {
                print "<td colspan=\"2\">" link(i) "</td>"
                k++
            } else print "<td>" words(1 + random(4)) "</td>"
        }
        print "</tr>"
    }
    print "</table>"
}
BEGIN {
    state = 20260101
    print "<!DOCTYPE html><html><head><title>A large page</title></head><body><h1>A large page</h1>"
    for (s = 1; s <= sections; s++) {
        print "<h2 id=\"s" s "\">" s ". " words(4) "</h2>"
        for (p = 0; p < 3; p++) {
            text = "<p>"
            for (i = 0; i < 6; i++)
                text = text words(9) ", <b>" word() "</b> &amp; <i>" word() "</i> " link(i) ". "
            print text "</p>"
        }
        print "<ul>"
        for (i = 0; i < 5; i++) print "<li>" link(i) "<ol><li>" words(5) "<li>" words(3) "</ol>"
        print "</ul>"
        table(8, 5, 2)
        print "<form action=\"/q\"><input name=\"a" s "\" value=\"" word() "\"> <select><option>" word() "<option>" word() "</select></form><hr>"
        print "<dl><dt>" word() "<dd>" words(12) "</dl><pre>" words(8) "\n  " words(6) "</pre>"
    }
    print "</body></html>"
}
