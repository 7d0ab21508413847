import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.avro.Schema;
import org.apache.avro.SchemaCompatibility;
import org.apache.avro.SchemaCompatibility.Incompatibility;
import org.apache.avro.SchemaCompatibility.SchemaCompatibilityResult;
import org.apache.avro.SchemaCompatibility.SchemaCompatibilityType;

/**
 * Says what Avro's Java library makes of schemas. One line is asked on standard input, one answered
 * on standard output; the first answer, "ready", comes without a question.
 *
 * <pre>
 * parse SCHEMA           schema TEXT, as Java writes it, or
 *                        refused WHY
 * parseany SCHEMA        the same, whatever the defaults are
 * compare READER WRITER  compatible, or
 *                        incompatible TYPE PATH MESSAGE TYPE PATH MESSAGE..., or
 *                        incomparable WHY, where Java gives the pair up with an exception, or
 *                        refused WHY
 * </pre>
 *
 * Words are separated by tabs. SCHEMA, READER, WRITER, TEXT, MESSAGE and WHY are the Base64 of UTF-8.
 * Defaults are not checked by parseany alone.
 */
public class Oracle {
  public static void main(String[] args) throws IOException {
    BufferedReader questions = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
    PrintStream answers = new PrintStream(System.out, false, StandardCharsets.US_ASCII);
    String answer = "ready";
    while (true) {
      answers.print(answer + "\n");
      answers.flush();
      String question = questions.readLine();
      if (question == null) {
        return;
      }
      answer = answer(question.split("\t", -1));
    }
  }

  private static String answer(String[] words) {
    try {
      switch (words[0]) {
        case "parse":
          return "schema\t" + encode(parse(words[1], true).toString());
        case "parseany":
          return "schema\t" + encode(parse(words[1], false).toString());
        case "compare":
          return compare(parse(words[1], true), parse(words[2], true));
        default:
          throw new Error("unknown question " + words[0]);
      }
    } catch (RuntimeException e) { // an Error, as for want of memory, is no verdict and ends the process
      return "refused\t" + encode(e.toString());
    }
  }

  private static String compare(Schema reader, Schema writer) {
    SchemaCompatibilityResult result;
    try {
      result = SchemaCompatibility.checkReaderWriterCompatibility(reader, writer).getResult();
    } catch (RuntimeException e) {
      return "incomparable\t" + encode(e.toString());
    }
    if (result.getCompatibility() == SchemaCompatibilityType.COMPATIBLE) {
      return "compatible";
    }
    StringBuilder answer = new StringBuilder("incompatible");
    for (Incompatibility reason : result.getIncompatibilities()) {
      answer.append('\t').append(reason.getType()).append('\t').append(reason.getLocation())
          .append('\t').append(encode(reason.getMessage()));
    }
    return answer.toString();
  }

  /** A parser of its own for each schema: a parser remembers the names it has seen. */
  private static Schema parse(String word, boolean checkDefaults) {
    Schema.Parser parser = new Schema.Parser();
    parser.setValidateDefaults(checkDefaults);
    return parser.parse(new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8));
  }

  private static String encode(String text) {
    return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
  }
}
