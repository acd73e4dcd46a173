/* Filters and sums up CSV: a plain program for a command line, which knows nothing of Sanderling. It is run with the execution
 * `command`: a frame is one table, such as a batch of a logger's lines, and each line that it prints becomes a record.
 *
 *   csv-filter [-d CHAR] [-w 'COLUMN OP VALUE']... [-s COLUMN]... [-n] < table.csv
 *
 *   -d CHAR    what separates fields; a comma without it
 *   -w COND    only rows for which this holds; several must all hold. OP is one of < <= > >= = != ~ (contains); numbers are compared as
 *              numbers where both sides are, else as text
 *   -s COLUMN  statistics of a column over those rows: {"column", "count", "min", "max", "mean", "stddev"}
 *   -n         no rows, statistics alone
 *
 * Rows are printed as JSON objects by column. The first row names the columns (RFC 4180: fields may be quoted, and hold separators, line ends and
 * doubled quotes). A row with another number of fields than the first is left out and counted on standard error.
 *
 * Exit status: 0, also where no row is left; 2 for arguments or a table that are not understood. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_COLUMNS = 64, MAX_CONDITIONS = 16, MAX_STATISTICS = 16 };

typedef enum operation { LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, EQUAL, NOT_EQUAL, CONTAINS } operation;

typedef struct condition {
    char *column;
    operation operation;
    const char *value;
    size_t index;
} condition;

/* Welford's running mean and sum of squared differences: one pass, no cancellation. */
typedef struct statistics {
    const char *column;
    size_t index;
    unsigned long count;
    double min, max, mean, squares;
} statistics;

typedef struct text {
    char *bytes;
    size_t length, room;
} text;

/* One row: its fields lie one after the other in `content`, each ended by a zero byte. */
typedef struct row {
    text content;
    size_t begin[MAX_COLUMNS];
    size_t count;
    bool too_many;
} row;

static condition conditions[MAX_CONDITIONS];
static statistics sums[MAX_STATISTICS];
static size_t condition_count, sum_count;
static char separator = ',';
static bool rows_wanted = true;

static void fail(const char *what, const char *about) {
    fprintf(stderr, "csv-filter: %s: %s\n", what, about);
    exit(2);
}

static void push(text *to, char byte) {
    if (to->length == to->room) {
        to->room = to->room == 0 ? 256 : to->room * 2;
        to->bytes = realloc(to->bytes, to->room);
        if (to->bytes == NULL) fail("no memory", "for a row");
    }
    to->bytes[to->length++] = byte;
}

static const char *field(const row *row, size_t index) {
    return row->content.bytes + row->begin[index];
}

static void begin_field(row *row) {
    if (row->count == MAX_COLUMNS) {
        row->too_many = true;
    } else {
        row->begin[row->count++] = row->content.length;
    }
}

/* Reads the next row; false at the end. A line without any character is no row. */
static bool read_row(FILE *from, row *row) {
    int byte = getc(from);
    while (byte == '\n' || byte == '\r') byte = getc(from);
    if (byte == EOF) return false;
    row->content.length = row->count = 0;
    row->too_many = false;
    begin_field(row);
    for (bool quoted = false;; byte = getc(from)) {
        if (byte == EOF || (!quoted && byte == '\n')) {
            push(&row->content, '\0');
            return true;
        }
        if (quoted) {
            if (byte != '"') {
                push(&row->content, (char)byte);
            } else if ((byte = getc(from)) == '"') {
                push(&row->content, '"');
            } else {
                quoted = false;
                ungetc(byte, from);
            }
        } else if (byte == '"') {
            quoted = true;
        } else if (byte == (unsigned char)separator) {
            push(&row->content, '\0');
            begin_field(row);
        } else if (byte != '\r') {
            push(&row->content, (char)byte);
        }
    }
}

static bool number(const char *text, double *value) {
    char *end = NULL;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*value);
}

static bool holds(const condition *condition, const char *found) {
    double left = 0, right = 0;
    int order = 0;
    if (condition->operation == CONTAINS) return strstr(found, condition->value) != NULL;
    if (number(found, &left) && number(condition->value, &right)) {
        order = (left > right) - (left < right);
    } else {
        order = strcmp(found, condition->value);
    }
    switch (condition->operation) {
    case LESS: return order < 0;
    case LESS_EQUAL: return order <= 0;
    case GREATER: return order > 0;
    case GREATER_EQUAL: return order >= 0;
    case EQUAL: return order == 0;
    default: return order != 0;
    }
}

static bool selected(const row *row) {
    for (size_t i = 0; i < condition_count; i++) {
        if (!holds(&conditions[i], field(row, conditions[i].index))) return false;
    }
    return true;
}

static void add(statistics *sum, double value) {
    sum->min = sum->count == 0 || value < sum->min ? value : sum->min;
    sum->max = sum->count == 0 || value > sum->max ? value : sum->max;
    sum->count++;
    double from_old = value - sum->mean;
    sum->mean += from_old / (double)sum->count;
    sum->squares += from_old * (value - sum->mean);
}

static void print_string(const char *string) {
    putchar('"');
    for (const char *at = string; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\') {
            printf("\\%c", byte);
        } else if (byte < 0x20) {
            printf("\\u%04x", byte);
        } else {
            putchar(byte);
        }
    }
    putchar('"');
}

static void print_row(const row *names, const row *row) {
    for (size_t i = 0; i < row->count; i++) {
        putchar(i == 0 ? '{' : ',');
        print_string(field(names, i));
        putchar(':');
        print_string(field(row, i));
    }
    puts("}");
}

static void print_sum(const statistics *sum) {
    fputs("{\"column\":", stdout);
    print_string(sum->column);
    printf(",\"count\":%lu", sum->count);
    if (sum->count > 0) {
        double spread = sum->count > 1 ? sqrt(sum->squares / (double)(sum->count - 1)) : 0.0;
        printf(",\"min\":%.12g,\"max\":%.12g,\"mean\":%.12g,\"stddev\":%.12g", sum->min, sum->max, sum->mean, spread);
    }
    puts("}");
}

/* Takes 'COLUMN OP VALUE' apart, in place. */
static condition parse_condition(char *argument) {
    static const struct {
        const char *sign;
        operation operation;
    } signs[] = {{" <= ", LESS_EQUAL}, {" >= ", GREATER_EQUAL}, {" != ", NOT_EQUAL}, {" < ", LESS},
                 {" > ", GREATER},     {" = ", EQUAL},          {" ~ ", CONTAINS}};
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        char *at = strstr(argument, signs[i].sign);
        if (at != NULL) {
            *at = '\0';
            return (condition){argument, signs[i].operation, at + strlen(signs[i].sign), 0};
        }
    }
    fail("not of the form COLUMN OP VALUE, with spaces", argument);
    abort();
}

static void parse_arguments(int count, char **arguments) {
    for (int option; (option = getopt(count, arguments, "d:w:s:n")) != -1;) {
        switch (option) {
        case 'd':
            if (strlen(optarg) != 1) fail("not one character", optarg);
            separator = optarg[0];
            break;
        case 'w':
            if (condition_count == MAX_CONDITIONS) fail("too many conditions", optarg);
            conditions[condition_count++] = parse_condition(optarg);
            break;
        case 's':
            if (sum_count == MAX_STATISTICS) fail("too many columns with statistics", optarg);
            sums[sum_count++].column = optarg;
            break;
        case 'n': rows_wanted = false; break;
        default: exit(2);
        }
    }
    if (optind < count) fail("the table is read from standard input, not from", arguments[optind]);
}

static size_t column(const row *names, const char *name) {
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(field(names, i), name) == 0) return i;
    }
    fail("the table has no such column", name);
    return 0;
}

int main(int count, char **arguments) {
    row names = {0}, row = {0};
    unsigned long odd = 0;
    parse_arguments(count, arguments);
    if (!read_row(stdin, &names)) return 0;
    if (names.too_many) fail("the table has too many columns", field(&names, MAX_COLUMNS - 1));
    for (size_t i = 0; i < condition_count; i++) conditions[i].index = column(&names, conditions[i].column);
    for (size_t i = 0; i < sum_count; i++) sums[i].index = column(&names, sums[i].column);
    while (read_row(stdin, &row)) {
        if (row.too_many || row.count != names.count) {
            odd++;
            continue;
        }
        if (!selected(&row)) continue;
        if (rows_wanted) print_row(&names, &row);
        for (size_t i = 0; i < sum_count; i++) {
            double value = 0;
            if (number(field(&row, sums[i].index), &value)) add(&sums[i], value);
        }
    }
    if (ferror(stdin)) fail("could not read", strerror(errno));
    for (size_t i = 0; i < sum_count; i++) print_sum(&sums[i]);
    if (odd > 0) fprintf(stderr, "csv-filter: %lu rows have another number of fields than the first\n", odd);
    return fflush(stdout) == 0 ? 0 : 2;
}
