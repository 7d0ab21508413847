import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import javax.sql.DataSource;
import org.postgresql.ds.PGSimpleDataSource;

/**
 * Places orders as docs/guide-existing-service.md shows it: one that goes well, one that is refused at the
 * commit, and one whose event is.
 */
class Main {
    static final PGSimpleDataSource db = new PGSimpleDataSource();

    public static void main(String[] args) throws SQLException {
        db.setUrl(System.getenv("JDBC_URL"));
        place("java-1", "ada");
        refused("mallory", "java-refused", "mallory");
        refused("unheard", "java-unheard", "ada");
    }

    static void place(String id, String customer) throws SQLException {
        String event = "{\"order_id\": \"" + id + "\", \"customer\": \"" + customer + "\", \"total_cents\": 1990}";
        Orders.place(db, id, customer, 1990, event);
    }

    static void refused(String why, String id, String customer) throws SQLException {
        try {
            place(id, customer);
        } catch (SQLException e) {
            if (e.getMessage().contains(why)) {
                return;
            }
            throw e;
        }
        throw new AssertionError("the order " + id + " was no error");
    }
}

