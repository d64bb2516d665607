from django.contrib.auth import views as auth
from django.urls import path

from experiments import views

app_name = "reports"
urlpatterns = [
    path("", views.index, name="index"),
    path("login/", auth.LoginView.as_view(template_name="reports/login.html", next_page="reports:index"), name="login"),
    path("logout/", auth.LogoutView.as_view(next_page="reports:login"), name="logout"),
    path("see/<str:token>/", views.see_variant, name="see"),
    path("searches/", views.searches, name="searches"),
    path("searches/<slug:table>.csv", views.searches_csv, name="searches-csv"),
    path("offline/", views.offline, name="offline"),
    path("offline/evaluate/", views.evaluate_offline, name="evaluate"),
    path("offline/<int:run_id>/withdraw/", views.withdraw_offline, name="withdraw"),
    path("<slug:name>/", views.report, name="report"),
    path("<slug:name>.json", views.report_json, name="json"),
    path("<slug:name>.csv", views.report_csv, name="csv"),
]
